"""Tables, verdicts and the JSON file: how results leave the bench."""

import json
import sys

from . import machine


def table(title, columns, rows):
    """Rows are lists of texts and numbers; numbers stand right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [
        max(len(column), *(len(row[i]) for row in cells)) if cells else len(column)
        for i, column in enumerate(columns)
    ]
    print(f"\n{title}")
    print("  " + "  ".join(column.ljust(width) for column, width in zip(columns, widths)))
    for row, shown in zip(rows, cells):
        print(
            "  "
            + "  ".join(
                text.rjust(width) if isinstance(cell, (int, float)) else text.ljust(width)
                for cell, text, width in zip(row, shown, widths)
            )
        )
    sys.stdout.flush()


class Report:
    """One run of one sub-command."""

    def __init__(self, command, options, perigee, tools):
        self.machine = machine.describe(perigee, tools)
        self.busy = machine.Busy()
        self.data = {
            "command": command,
            "options": options,
            "machine": self.machine,
            "results": {},
            "verdicts": [],
        }
        shown = self.machine
        print(
            f"tools/bench {command}: {shown['date']}, {shown['cores']} × {shown['processor']}, Linux {shown['kernel']}, "
            f"load average before {shown['load_before']}"
        )
        print(f"  {shown['perigee']} | {shown['haproxy']} | {shown['nginx']}", flush=True)
        if shown["load_before"] > 0.5 * shown["cores"]:
            print(
                "  WARNING: this machine was busy before we began; figures of time are not to be trusted.",
                flush=True,
            )

    def keep(self, name, value):
        self.data["results"][name] = value

    def verdict(self, goal, figure, reached):
        """One goal: what is wanted, what was measured, whether that is it."""
        self.data["verdicts"].append({"goal": goal, "figure": figure, "reached": bool(reached)})

    def end(self, out):
        self.machine["busy"] = round(self.busy.share(), 3)
        print(f"\nMachine busy while this ran: {100 * self.machine['busy']:.0f} % of all cores.")
        for one in self.data["verdicts"]:
            print(f"{'REACHED' if one['reached'] else 'MISSED '}  {one['goal']}: {one['figure']}")
        if out:
            with open(out, "w", encoding="utf-8") as file:
                json.dump(self.data, file, indent=1)
                file.write("\n")
            print(f"Written: {out}")
        return 0 if all(one["reached"] for one in self.data["verdicts"]) else 1
