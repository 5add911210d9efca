"""What stands between the features and the outputs of one task."""

from torch import nn

from mtl_lightning.system.errors import UserError


def head(
    num_features: int, num_outputs: int, hidden: int | None = None, dropout: float = 0.0
) -> nn.Module:
    """Build a head: (B, num_features) to (B, num_outputs).

    Args:
        num_features: Length of the feature vector.
        num_outputs: Number of outputs of the task.
        hidden: Width of a hidden layer with ReLU, or None for a linear head.
        dropout: Probability of dropping a feature (and a hidden unit) in training, in [0, 1).

    Returns:
        dropout, linear; or dropout, linear, ReLU, dropout, linear.

    Raises:
        UserError: If ``dropout`` or ``hidden`` is out of range.
    """
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be at least 0 and less than 1, found {dropout}")
    if hidden is None:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, num_outputs))
    if hidden < 1:
        raise UserError(
            f"head_hidden must be at least 1, or null for a linear head: found {hidden}"
        )
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(num_features, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_outputs),
    )
