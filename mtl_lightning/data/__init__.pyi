# The public names of this folder and the modules that they are imported from when first used, see
# `mtl_lightning/__init__.pyi`.
from .batch import Batch as Batch
from .datamodule import PartialLabels as PartialLabels
from .intensity import Intensity as Intensity
from .mirroring.mirror import Mirror as Mirror
from .sampling import (
    AtLeast as AtLeast,
)
from .sampling import (
    LabelBalanced as LabelBalanced,
)
from .sampling import (
    Mixed as Mixed,
)
from .sampling import (
    Sampling as Sampling,
)
from .sampling import (
    Shards as Shards,
)
from .sampling import (
    TimeOrder as TimeOrder,
)
from .sources import (
    CelebASource as CelebASource,
)
from .sources import (
    DiabetesSource as DiabetesSource,
)
from .sources import (
    DigitsSource as DigitsSource,
)
from .sources import (
    FashionAISource as FashionAISource,
)
from .sources import (
    FilenameSource as FilenameSource,
)
from .sources import (
    FolderSource as FolderSource,
)
from .sources import (
    HuggingFaceSource as HuggingFaceSource,
)
from .sources import (
    Market1501AttributeSource as Market1501AttributeSource,
)
from .sources import (
    MarketSource as MarketSource,
)
from .sources import (
    MultiMNISTSource as MultiMNISTSource,
)
from .sources import (
    ShapesSource as ShapesSource,
)
from .sources import (
    Source as Source,
)
from .sources import (
    SourceTable as SourceTable,
)
from .sources import (
    StemsSource as StemsSource,
)
from .sources import (
    StreamSource as StreamSource,
)
from .sources import (
    TableSource as TableSource,
)
from .sources import (
    TorchvisionSource as TorchvisionSource,
)
from .sources import (
    UTKFaceSource as UTKFaceSource,
)
