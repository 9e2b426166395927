"""One training set in several languages: each text follows the rules of its own."""

from __future__ import annotations

from collections.abc import Sequence

from anadil.errors import AnadilError
from anadil.manifest import Utterance
from anadil.training.config import Config


def languages_of(config: Config, train: Sequence[Utterance], valid: Sequence[Utterance] = ()) -> list[str]:
    """Every language of the data, sorted, if the training data hold several; an utterance without one has the config's.

    Empty otherwise: then the config's language counts, whatever a manifest calls it. Raises AnadilError if
    `data.language_temperature` has nothing to weigh.
    """
    spoken = {utterance.language or config.language for utterance in train}
    if len(spoken) > 1:
        return sorted(spoken | {utterance.language or config.language for utterance in valid})
    if config.data.language_temperature is not None:
        raise AnadilError(
            f"data.language_temperature weighs languages, but the training data hold one: {', '.join(spoken)}\n"
            '  next: give each utterance its "language" in the manifests, or leave the key out'
        )
    return []


def grouped(config: Config, utterances: Sequence[Utterance], languages: Sequence[str]) -> dict[str, list[Utterance]]:
    """Utterances by language; all of them under the config's if `languages` is empty."""
    if not languages:
        return {config.language: list(utterances)}
    groups: dict[str, list[Utterance]] = {language: [] for language in languages}
    for utterance in utterances:
        groups[utterance.language or config.language].append(utterance)
    return groups
