"""What must be in the environment before PyTorch is loaded. Import this module first."""

import os

# Threads that wait for each other by spinning take the cores from those they wait for as soon as
# there are more threads than cores: on two busy cores evaluations took nine times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A fraction of a millisecond of it is worth it, though: a thread that sleeps between two passes
# over a block takes longer to wake than the pass takes. Measured: evaluations took half as long.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# NumPy's sums are small. Shared among threads of its own they take longer, two to three times where
# PyTorch's threads have the cores; and how many cores there are would tell in a sum's last digit.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
