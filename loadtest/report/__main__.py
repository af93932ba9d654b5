"""`python -m loadtest.report FOLDER`: render the report of a recording again."""

import argparse
from pathlib import Path

from loadtest.report.page import write_report
from loadtest.report.recording import Recording


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtest.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="a recording: run.json, requests.csv, gaps.csv and series.csv")
    parser.add_argument("--table", type=Path, help="locust's table, ..._stats.csv; else the one in the folder, if any")
    chosen = parser.parse_args()
    try:
        recording = Recording.read(chosen.folder)
        table = chosen.table or next(iter(sorted(chosen.folder.glob("*_stats.csv"))), None)
        print(write_report(recording, chosen.folder, table=table))
    except (OSError, ValueError) as wrong:
        parser.error(str(wrong))


if __name__ == "__main__":
    main()
