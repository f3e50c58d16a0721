"""Result files in a zip archive, as servers take them and authors publish them."""

import zipfile
import zlib
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.files import cannot_write

MOST_BYTES = 2**31  # of all result files together: boxes of any benchmark are less


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks the .txt and .json files of an archive; other files are not looked at.

    Raises:
        ChaseError: it is damaged, encrypted, or larger than any results can be.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            texts = [e for e in opened.infolist() if e.filename.endswith((".txt", ".json"))]
            size = sum(e.file_size for e in texts)
            if size <= MOST_BYTES:
                folder.mkdir(parents=True)
                opened.extractall(folder, texts)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError):
        raise ChaseError(f"{archive} is not a zip archive, or it is damaged or encrypted") from None
    except OSError as e:
        raise cannot_write(folder, e) from None
    if size > MOST_BYTES:
        raise ChaseError(f"{archive} unpacks to {size >> 20} MiB of text: these are no result files")
    return folder
