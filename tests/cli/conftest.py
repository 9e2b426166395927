from tests.support.micro import exported, micro

__all__ = ["exported", "micro"]
