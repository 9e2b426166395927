from tests.micro import exported, micro

__all__ = ["exported", "micro"]
