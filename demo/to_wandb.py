"""What the service says of a validation, logged to Weights and Biases, epoch by epoch.

XENT_URL names the service; with WANDB_MODE=offline runs are kept in the folder WANDB_DIR.
"""

import wandb

from demo.learning import validated
from xent import Client

if __name__ == "__main__":
    with Client() as client, wandb.init(project="xent", config={"variant": "sparse"}) as run:
        for epoch, answer in validated(client):
            run.log(answer.metrics("xent/"), step=epoch)
