"""The duty of erasing, for what was trained on an author's writing: nothing can be taken out of weights."""

from llm_engineering.domain.models import ModelVersion, Stage
from llm_engineering.domain.personal_data import DataSubject
from llm_engineering.domain.ports import Erased, Registry


class TrainedModels:
    """See `PersonalData`. The versions are flagged in the registry, and with `archive` taken out of use: a version
    that is archived answers only who asks for it by its number. Whose writing it was says its fact `AUTHORS`."""

    def __init__(self, registry: Registry, *, archive: bool) -> None:
        self._registry, self._archive = registry, archive

    def holds(self, subject: DataSubject) -> int:
        return len(self._open(subject))

    def erase(self, subject: DataSubject) -> Erased:
        found = self._open(subject)
        for one in found:
            self._registry.flag_erased(one.name, one.version, subject.author_id)
            if self._archive and one.stage is not Stage.ARCHIVED:
                self._registry.promote(one.name, one.version, Stage.ARCHIVED)
        names = ", ".join(map(str, self._trained_on(subject)))
        how = "archived" if self._archive else "flagged; --with-models archives them"
        return Erased(len(found), f"weights cannot forget: {names} ({how})" if names else "")

    def _trained_on(self, subject: DataSubject) -> list[ModelVersion]:
        return [one for one in self._registry.versions() if subject.author_id in one.authors]

    def _open(self, subject: DataSubject) -> list[ModelVersion]:
        """Those with which something is still to be done."""
        return [
            one
            for one in self._trained_on(subject)
            if subject.author_id not in one.erased_authors or (self._archive and one.stage is not Stage.ARCHIVED)
        ]
