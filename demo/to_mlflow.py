"""What the service says of a validation, logged to MLflow, epoch by epoch.

XENT_URL names the service and MLFLOW_TRACKING_URI what keeps the runs: ``sqlite:///runs.db``, say.
"""

import mlflow

from demo.learning import validated
from xent import Client

if __name__ == "__main__":
    with Client() as client, mlflow.start_run():
        mlflow.log_params({"variant": "sparse", "service": client.configuration.url})
        for epoch, answer in validated(client):
            mlflow.log_metrics(answer.metrics("xent/"), step=epoch)
