"""``python -m demo``: real logits of two classifiers, posted to every variant, and remembered."""

import os
import sys

import httpx2

from demo.checks import checks
from demo.client import Client, Refused
from demo.digits import train
from demo.history import remember
from demo.inquiry import inquire
from demo.month_report import month_checks, month_report
from demo.pixels import show
from demo.report import report
from demo.running import NoService, service
from demo.tables import heading, paragraph


def main(url: str | None) -> int:
    """Run the demo against a service; return the exit code.

    Args:
        url: where the service is; ``None`` looks for one at the usual place, or starts one.
    """
    try:
        with service(url) as (found, how):
            print(f"Xent at {found}, {how}.")
            code = _run(found)
        return code if show() else 1
    except (NoService, Refused, httpx2.HTTPError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def _run(url: str) -> int:
    held_out = train()
    accuracies = (f"{name} {held_out.accuracy(name):.1%}" for name in held_out.logits)
    print(
        paragraph(
            f"Handwritten digits: {held_out.trained_on} images to train on, "
            f"{len(held_out.labels)} held out. Accuracy on those: {', '.join(accuracies)}."
        )
    )
    client = Client(url)
    try:
        inquiry = inquire(client, held_out)
        remembered = remember(client, held_out)
    finally:
        client.close()
    for section in (*report(held_out, inquiry), month_report(remembered)):
        print(section)
    found = [*checks(held_out, inquiry), *month_checks(remembered)]
    print(heading("Checks"))
    for holds, sentence in found:
        print(f"{'ok  ' if holds else 'FAIL'}  {sentence}")
    return 0 if all(holds for holds, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main(os.environ.get("XENT_URL") or None))
