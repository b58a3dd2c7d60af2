"""On which terms batches are read, by the settings."""

from service.questions import Question
from service.settings import Settings
from service.wire.payload import Limits
from service.wire.stream import Terms


def limits_of(settings: Settings) -> Limits:
    """Return the largest batch that is taken."""
    return Limits(
        rows=settings.rows,
        classes=settings.classes,
        elements=settings.elements,
        document_entries=settings.document_entries,
    )


def terms_of(settings: Settings, question: Question, length: int | None) -> Terms:
    """Return the terms of a body of so many bytes, where they are known beforehand."""
    return Terms(
        limits=limits_of(settings),
        fields=question.model.model_fields,
        length=length,
        body_bytes=settings.body_bytes,
        message_bytes=settings.message_bytes,
        spool_bytes=settings.spool_bytes,
        folder=settings.data_dir,
    )
