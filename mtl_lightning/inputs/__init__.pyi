# The public names of this folder and the modules that they are imported from when first used, see
# `mtl_lightning/__init__.pyi`.
from .base import (
    EncodedInput as EncodedInput,
)
from .base import (
    Input as Input,
)
from .category import Category as Category
from .date import Date as Date
from .number import Number as Number
