"""What every fit needs beside its model: durable checkpoints, random state, clean stops."""

from synthrad.callbacks.durable_checkpoint import DurableCheckpoint, DurableCheckpointIO, newest_valid
from synthrad.callbacks.preemption import Preemption, Watch, interruptible
from synthrad.callbacks.progress import ImageProgress
from synthrad.callbacks.random_state import RandomState

__all__ = ["DurableCheckpoint", "DurableCheckpointIO", "ImageProgress", "Preemption", "RandomState", "Watch", "interruptible",
           "newest_valid"]
