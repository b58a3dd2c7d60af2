"""What a running service exports: every metric, its labels, and the values they have taken."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.service.harness import Running


@dataclass(frozen=True)
class Exported:
    """Metrics by the names that expressions use, as ``xent_rows_total``.

    Attributes:
        labels: what each can be told apart by.
        samples: name and labels of everything that was there.
    """

    labels: dict[str, set[str]]
    samples: list[tuple[str, dict[str, str]]]

    def values(self, name: str, label: str) -> set[str]:
        """Return the values that a label has been seen with."""
        return {
            labels[label] for found, labels in self.samples if found == name and label in labels
        }


def exported(server: Running) -> Exported:
    """Scrape a server."""
    text = server.client.get("/metrics").text
    samples = [
        (sample.name, dict(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    labels = declared(server.metrics.registry)
    for name, own in samples:
        labels.setdefault(name, set()).update(own)
    return Exported(labels, samples)


def declared(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Return labels of metrics that may not have a single sample yet: an error, a refusal."""
    found: dict[str, set[str]] = {}
    for collector, names in registry._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        for name in names:
            found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found
