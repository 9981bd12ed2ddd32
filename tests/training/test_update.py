"""The canary of an update: with learning rate 0 the next version writes exactly what the one before it wrote."""

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model
from grpo_aflow.tasks import bundled
from grpo_aflow.types import TrainingGroup
from grpo_aflow.workflow import check_text


@pytest.mark.slow
async def test_samples_and_valid_rate_are_unchanged_by_an_update_without_learning_rate(model_cache, tmp_path):
    from grpo_aflow.learner.learner import Learner
    from grpo_aflow.learner.storage.adapter_store import AdapterStore

    config = compose("sampler=hf", f"paths.cache={model_cache}")
    with Progress(num_steps=1, log_every=1) as progress:
        model = await prepare_model(config, [], progress)
    task = bundled("train")[0]
    prompt_ids = model.tokenizer.encode_chat(config.prompt.messages(task))
    params, seeds = config.sampler.params(0), list(range(8))
    learner = Learner(model.path, config.lora, config.objective, config.learner)
    sampler = await config.sampler.start(model, AdapterLimits(rank=16, num_versions=2), watchdog=None, seed=0)
    store = AdapterStore(tmp_path)

    async def published():
        await sampler.publish(store.publish(learner.save_adapter, learner.version))
        stream = sampler.sample(prompt_ids, seeds=seeds, params=params, version=learner.version)
        drawn = dict([item async for item in stream])
        return [drawn[member] for member in seeds]

    before = await published()
    advantages = tuple((-1.0) ** member for member in seeds)
    learner.backward(
        TrainingGroup(
            prompt_ids=prompt_ids, completions=tuple(before), advantages=advantages, temperature=params.temperature
        )
    )
    stats = learner.step(0.0)
    assert stats["update/made"] == 1.0
    assert stats["update/grad_norm"] > 0
    after = await published()
    await sampler.close()
    assert [c.version for c in after] == [1] * 8
    assert [c.token_ids for c in after] == [c.token_ids for c in before]
    rates = [
        sum(check_text(c.text, domain="math", rules=config.workflow).valid for c in part) for part in (before, after)
    ]
    assert rates[0] == rates[1] > 0
