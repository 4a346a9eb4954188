"""A terminal's screen: which character stands where after a program's bytes. Knows the control sequences that
Bulla writes and raises ValueError on others."""
import re
import unicodedata

SEQUENCE = re.compile(r"\x1b\[(\??)(\d*)([A-Za-z])")


def width_of(character):
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


class Screen:
    def __init__(self, rows=24, columns=80):
        self.rows, self.columns = rows, columns
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.wraps = False

    def line_feed(self):
        self.wraps = False
        if self.row + 1 < self.rows:
            self.row += 1
        else:
            self.cells = self.cells[1:] + [[" "] * self.columns]

    def put(self, character):
        width = width_of(character)
        if width == 0:
            return
        if self.wraps or self.column + width > self.columns:
            self.line_feed()
            self.column = 0
        self.cells[self.row][self.column:self.column + width] = [character] + [""] * (width - 1)
        self.column += width
        if self.column == self.columns:
            self.column, self.wraps = self.columns - 1, True

    def control(self, private, number, letter):
        self.wraps = False
        if private:
            return
        count = int(number or 1)
        if letter == "A":
            self.row = max(0, self.row - count)
        elif letter == "C":
            self.column = min(self.columns - 1, self.column + count)
        elif letter == "H":
            self.row = self.column = 0
        elif letter == "K":
            self.cells[self.row][self.column:] = [" "] * (self.columns - self.column)
        elif letter == "J":
            first = (0, 0) if number == "2" else (self.row, self.column)
            self.cells[first[0]][first[1]:] = [" "] * (self.columns - first[1])
            for row in range(first[0] + 1, self.rows):
                self.cells[row] = [" "] * self.columns
        else:
            raise ValueError(f"control sequence ending in {letter}")

    def write(self, text):
        at = 0
        while at < len(text):
            match = SEQUENCE.match(text, at)
            if match:
                self.control(*match.groups())
                at = match.end()
                continue
            character = text[at]
            if character == "\r":
                self.column, self.wraps = 0, False
            elif character == "\n":
                self.line_feed()
            elif ord(character) < 32:
                raise ValueError(f"control character {ord(character)}")
            else:
                self.put(character)
            at += 1

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]
