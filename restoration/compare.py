"""Compare runs: one table, and curves over corruption strength and over NFE.

python -m restoration.compare outputs/blur_erase --output outputs/comparison
python -m restoration.compare outputs/blur_erase --to outputs/blur_erase/first
python -m restoration.compare outputs/blur_erase/first outputs/blur_erase/second --html page.html
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from restoration.report.curves import write_curves
from restoration.report.folder import Report, find
from restoration.report.page import check_free, notes, page
from restoration.report.repeats import print_repeats
from restoration.report.table import markdown, print_table, rows, write_csv
from restoration.run.command import command, output_folder


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m restoration.compare", description="Compare runs in one table.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders above them")
    parser.add_argument("--output", type=Path, help="also write compare.csv, strength.png and nfe.png to this folder")
    parser.add_argument("--to", type=Path, help="also show the differences in PSNR and Fréchet distance to this run")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--html", type=Path, help="also write one page with tables, charts and pictures to this file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --html")
    options = parser.parse_args(arguments)
    reports = find(options.runs)
    reference = Report.load(options.to) if options.to else None
    if options.output:
        output_folder(options.output)
    if options.html:
        check_free(options.html, options.overwrite)
        output_folder(options.html.absolute().parent)
    results = rows(reports, *([reference] if reference else []))
    if options.markdown:
        print(markdown(results))
    else:
        print_table(results)
    print_repeats(reports, reference)
    if reference and not any(row.get("psnr_difference") for row in results):
        print(f"no differences to {reference.name}: no run was evaluated on the same degraded images at the same NFE")
    if options.output:
        write_csv(results, options.output / "compare.csv")
        written = [options.output / "compare.csv", *write_curves(reports, options.output)]
        print("wrote " + ", ".join(map(str, written)))
    if options.html:
        first = find(options.runs[:1])[0].folder
        reports = sorted(reports, key=lambda report: report.folder != first)  # the first one given is number 1
        content = page(reports, reference)
        part = options.html.with_name(options.html.name + ".part")
        part.write_text(content)
        part.replace(options.html)
        print("\n".join([*notes(reports), f"wrote {options.html}: open it in a browser"]))


if __name__ == "__main__":
    main()
