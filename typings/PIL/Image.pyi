from typing import BinaryIO

class Image: ...

def open(fp: BinaryIO) -> Image: ...  # noqa: A001
