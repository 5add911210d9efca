# The public names and the modules that they are imported from when first used: read by type
# checkers and, with lazy_loader, by `__init__.py`.
from ._version import __version__ as __version__
from .balancing import (
    DBMTL as DBMTL,
    BalancingMethod as BalancingMethod,
    DynamicPrioritisation as DynamicPrioritisation,
    GradientBalancingMethod as GradientBalancingMethod,
    GradNorm as GradNorm,
    LossBalancingMethod as LossBalancingMethod,
    ScaleInvariant as ScaleInvariant,
)
from .data import (
    AtLeast as AtLeast,
    CelebASource as CelebASource,
    DiabetesSource as DiabetesSource,
    DigitsSource as DigitsSource,
    FashionAISource as FashionAISource,
    FilenameSource as FilenameSource,
    FolderSource as FolderSource,
    HuggingFaceSource as HuggingFaceSource,
    LabelBalanced as LabelBalanced,
    Market1501AttributeSource as Market1501AttributeSource,
    MarketSource as MarketSource,
    Intensity as Intensity,
    Mirror as Mirror,
    Mixed as Mixed,
    MultiMNISTSource as MultiMNISTSource,
    PartialLabels as PartialLabels,
    Sampling as Sampling,
    ShapesSource as ShapesSource,
    Shards as Shards,
    Source as Source,
    SourceTable as SourceTable,
    StemsSource as StemsSource,
    StreamSource as StreamSource,
    TableSource as TableSource,
    TimeOrder as TimeOrder,
    TorchvisionSource as TorchvisionSource,
    UTKFaceSource as UTKFaceSource,
)
from .inference import (
    Model as Model,
    load as load,
)
from .inputs import (
    Category as Category,
    Date as Date,
    Input as Input,
    Number as Number,
)
from .models import (
    VGG16 as VGG16,
    Backbone as Backbone,
    FTTransformer as FTTransformer,
    Hard as Hard,
    ImageAndTable as ImageAndTable,
    Network as Network,
    Sharing as Sharing,
    Soft as Soft,
    TableMLP as TableMLP,
    TabM as TabM,
    Timm as Timm,
    Torchvision as Torchvision,
)
from .system.errors import (
    SourceError as SourceError,
    UserError as UserError,
)
from .tasks import (
    Classification as Classification,
    DenseRegression as DenseRegression,
    HierarchicalClassification as HierarchicalClassification,
    MultiLabel as MultiLabel,
    MultiRegression as MultiRegression,
    Ordinal as Ordinal,
    Regression as Regression,
    Segmentation as Segmentation,
    Task as Task,
)
from .training.module import (
    MultiTask as MultiTask,
)
from .unlabelled import (
    SelfTraining as SelfTraining,
    UnlabelledLearning as UnlabelledLearning,
)
