"""Threads, the compiler, and Hypothesis profiles: ``dev``, and ``ci`` with more examples."""

import os

from hypothesis import HealthCheck, Phase, settings

# Before PyTorch is loaded. Tests run beside each other, one on every core: more threads than cores
# wait for each other, and those that spin meanwhile take the cores from those they wait for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Every build of compiled passes begins by trying one after the other which vector instructions the
# compiler knows, for ten seconds. Here it is believed to know those of the processor, or fails.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

# Derandomised: the same examples on every machine and every run, so that a red test stays red.
settings.register_profile(
    "ci",
    max_examples=4,
    derandomize=True,
    deadline=None,
    database=None,
    # No shrinking: examples are small, and CI wants the answer soon.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
# The simplest example there is, mostly a batch without rows, and one that is drawn: one of every
# variant and kind of labels for every law.
settings.register_profile("dev", parent=settings.get_profile("ci"), max_examples=2)
# To go looking for new failures, and to shrink them: pytest --hypothesis-profile=hunt
settings.register_profile(
    "hunt",
    parent=settings.get_profile("ci"),
    max_examples=200,
    derandomize=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
settings.load_profile("dev")
