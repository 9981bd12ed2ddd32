"""Out of a run folder: what is merged is the base that the adapter was trained on."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from grpo_aflow.learner.storage.export import export
from grpo_aflow.types import UserError


def test_a_base_that_is_another_by_now_is_not_merged_into(tmp_path):
    """A name stays where its content changes: a folder that was replaced, a hub id at another revision."""
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    base.mkdir()
    adapter.mkdir()
    (base / "config.json").write_text("{}")
    save_file({"a": np.zeros(1)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "base_model.json").write_text(json.dumps({"sha256": "of another"}))
    with pytest.raises(UserError, match=r"adapter was trained on another .*/base than .* export without --merged"):
        export(adapter, out, merged=True)
    assert not out.exists()
    export(adapter, out, merged=False)
