"""How bench/speed.py's report is shown: a line as each row is measured, and Markdown tables in the end."""


def amount(value):
    return "%.0f" % value if value >= 1000 else "%.1f" % value if value >= 10 else "%.2f" % value


def spread(found):
    if found["low"] == found["high"]:
        return amount(found["median"])
    return "%s (%s to %s)" % tuple(amount(found[key]) for key in ("median", "low", "high"))


def line(row, sides):
    found = "".join("  %s %s" % (name, spread(row[name])) for name in sides)
    ratios = "".join("  %.2f x %s" % (row["ratio to " + name], name) for name in sides[1:])
    return "  %-33s%s%s" % ("%s, %s" % (row["what"], row["unit"]), found, ratios)


def speculation_line(row):
    if not row:
        return "  speculation: this program has none"
    return "  %s, %s: with speculation %s, without %s, %.2f x (%d questions, %d tokens)" % (
        row["what"], row["unit"], spread(row["with"]), spread(row["without"]), row["ratio"], row["questions"],
        row["tokens"])


def model_table(model):
    sides = model["sides"]
    head = ["what", sides[0]] + [cell for name in sides[1:] for cell in (name, "ratio")]
    rows = [head, ["---"] * len(head)]
    for row in model["rows"]:
        cells = ["%s, %s" % (row["what"], row["unit"]), spread(row[sides[0]])]
        for name in sides[1:]:
            cells += [spread(row[name]), "%.2f" % row["ratio to " + name]]
        rows.append(cells)
    return "\n".join("| %s |" % " | ".join(cells) for cells in rows)


def bandwidth_sentence(found):
    memory = ", ".join("%.1f over %d MB" % (speed, int(size) // 1000000)
                       for size, speed in found["memory GB/s by bytes read"].items())
    return "While decoding %.1f MB of weights are read a token, %.1f GB/s; memory gives %s GB/s: %.0f %%." % (
        found["bytes a token"] * 1e-6, found["GB/s"], memory, 100 * found["share"])


def markdown(report):
    parts = []
    for model in report["models"]:
        parts += ["%s, %d threads, %s:" % (model["model"], report["threads"], report["machine"]["processor"]),
                  model_table(model), bandwidth_sentence(model["bandwidth"])]
        if model.get("speculation"):
            parts.append(speculation_line(model["speculation"]).strip())
    return "\n\n".join(parts) + "\n"
