"""The client of Xent, a loss-evaluation service.

>>> from xent import Client
>>> client = Client("http://127.0.0.1:8000")     # or XENT_URL; a key from XENT_API_KEY
>>> answer = client.loss("focal", logits, labels, gamma=2.0, outputs=["gradient"])
>>> answer.loss, answer.gradient                 # NumPy in, NumPy out; torch in, torch out
"""

from xent.alerts import Alert, Reference
from xent.answers import (
    Answer,
    Calibration,
    Compared,
    Comparison,
    Diagnostic,
    Distribution,
    Evaluated,
    Reduction,
    Rows,
    Tracked,
    Variant,
)
from xent.async_client import AsyncClient, AsyncModel, AsyncProject
from xent.client import Client, Model, Project
from xent.configuration import Retries
from xent.errors import (
    BodyTimeout,
    Conflict,
    Fault,
    Forbidden,
    InvalidBatch,
    InvalidConfiguration,
    Malformed,
    Missing,
    NoAnswer,
    NotFound,
    Problem,
    QueueFull,
    Refused,
    ServiceFailed,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreadable,
    UnsupportedMediaType,
    XentError,
)
from xent.exports import Export
from xent.history import Judgement, Report, TimeSeries
from xent.models import ModelVersion, Port
from xent.specs import Spec
from xent.tables import Table
from xent.tracking import Track

__all__ = [
    "Alert",
    "Answer",
    "AsyncClient",
    "AsyncModel",
    "AsyncProject",
    "BodyTimeout",
    "Calibration",
    "Client",
    "Compared",
    "Comparison",
    "Conflict",
    "Diagnostic",
    "Distribution",
    "Evaluated",
    "Export",
    "Fault",
    "Forbidden",
    "InvalidBatch",
    "InvalidConfiguration",
    "Judgement",
    "Malformed",
    "Missing",
    "Model",
    "ModelVersion",
    "NoAnswer",
    "NotFound",
    "Port",
    "Problem",
    "Project",
    "QueueFull",
    "Reduction",
    "Reference",
    "Refused",
    "Report",
    "Retries",
    "Rows",
    "ServiceFailed",
    "Spec",
    "Table",
    "TimeSeries",
    "TimedOut",
    "TooLarge",
    "Track",
    "Tracked",
    "Unauthenticated",
    "Unavailable",
    "Unreadable",
    "UnsupportedMediaType",
    "Variant",
    "XentError",
]
