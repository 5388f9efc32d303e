"""Write these examples, with the lesson and the homework, to a folder of your own.

    python -m npaae_examples DIR

Everything in DIR then runs as it does in a clone of the project. Only the pictures are left out.
"""

import argparse
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", metavar="DIR", type=Path, help="must not exist yet")
    folder = parser.parse_args().folder
    if folder.exists():
        parser.error(f"DIR must not exist yet, got {folder}")
    skipped = shutil.ignore_patterns("__main__.py", "__pycache__", ".*", "images")
    shutil.copytree(HERE, folder, ignore=skipped)
    print(f"{folder} is ready: start with {folder / 'lesson' / 'README.md'}")


if __name__ == "__main__":
    main()
