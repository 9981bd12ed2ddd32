"""What environments on other machines are made of can be sent there."""

import pickle

from grpo_aflow.config.composing import compose
from grpo_aflow.rollout.environment import EnvironmentSpec
from grpo_aflow.rollout.reward import tiers_of


def test_a_spec_survives_the_way():
    config = compose()
    spec = EnvironmentSpec(
        rules=config.workflow,
        temperature=0.0,
        max_tokens=9,
        tiers=tiers_of(config.reward),
        sandbox=config.sandbox,
    )
    opens = pickle.loads(pickle.dumps(spec.open))
    assert opens.__self__ == spec
