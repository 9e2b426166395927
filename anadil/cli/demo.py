EXAMPLE = ""


def command() -> None:
    "x"
