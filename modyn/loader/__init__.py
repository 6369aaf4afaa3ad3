"""Feed chosen samples to a training loop, batch by batch, at memory speed.

A `Loader` is a plan: these samples of this dataset, in this order, so many to a
batch.  Iterating over it carries out one epoch: worker threads fill batches
ahead of the loop, and the loop sees them in an order that depends on the seed
and the epoch alone.

A batch is memory of its own, filled once.  It belongs to whoever took it: its
tensors may be written to, and stay valid as long as any of them is referred
to, also when the loader and the dataset are gone.
"""

from modyn.loader.batch import Batch, RaggedTensor
from modyn.loader.batches import Batches
from modyn.loader.plan import Loader
from modyn.loader.staging import Chosen
from modyn.loader.waits import Waits

__all__ = ["Batch", "Batches", "Chosen", "Loader", "RaggedTensor", "Waits"]
