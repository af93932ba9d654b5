"""Forms as clients write them."""

TYPE = b"multipart/form-data; boundary=b0"
MODEL = ('name="model"', b"whisper")
FILE = ('name="file"; filename="model"', b"RIFF\r\n--b1\r\nname=model\x00\xff")


def form(*parts: tuple[str, bytes], boundary: str = "b0", end: bool = True) -> bytes:
    out = b"".join(
        f"--{boundary}\r\ncontent-disposition: form-data; {head}\r\n\r\n".encode() + value + b"\r\n"
        for head, value in parts
    )
    return out + (f"--{boundary}--\r\n".encode() if end else b"")
