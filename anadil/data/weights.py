"""How much an utterance counts in training: the manifest's key "weight", and the config's for pseudo labels."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

from anadil.data.checks import Checked
from anadil.errors import AnadilError, Problem
from anadil.manifest import Utterance

WEIGHT = "weight"
LARGEST = 1000.0


def weighed(checked: Checked, of_pseudo_labels: float | None = None) -> Checked:
    """Examples with their weights; `of_pseudo_labels` is that of all pseudo labels, None: what their lines say.

    What is weighed 0 is set aside and noted; a weight that is none is a problem.
    """
    result = Checked([], list(checked.problems), Counter(checked.notes), checked.total)
    for example in checked.examples:
        one = example.utterance
        try:
            weight = weight_of(one)
            if one.is_pseudo_label and of_pseudo_labels is not None:
                weight = of_pseudo_labels
        except AnadilError as error:
            result.problems.append(Problem(one.source or one.audio_filepath, str(error)))
        else:
            if weight:
                result.examples.append(replace(example, weight=weight) if weight != 1 else example)
            else:
                result.notes["set aside, weight 0"] += 1
    return result


def weight_of(utterance: Utterance) -> float:
    """The line's weight, 1 if it has none. Raises AnadilError if it is no number from 0 to 1000."""
    value = utterance.extra.get(WEIGHT)
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise AnadilError(f'"{WEIGHT}" must be a number from 0 to {LARGEST:g}, found {json.dumps(value)}')
    return float(value)
