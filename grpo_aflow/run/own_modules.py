"""Where modules of the user's own are looked for: operators, datasets and rewards that a config names."""

from __future__ import annotations

import os
import sys

from grpo_aflow.types import UserError


def search_working_folder() -> None:
    """Look for modules in the working folder, too, behind all others. Raises UserError where there is none any more."""
    try:
        here = os.getcwd()
    except OSError as error:
        raise UserError(f"the working folder is gone ({error.strerror}): change into another") from error
    if not {"", here} & set(sys.path):
        sys.path.append(here)
