"""Writes shift_tables.txt: the tables of the Python package gsmcodecs, which others transcribed from
3GPP TS 23.038 V18.0.0, one a line: language, kind, 128 code points in hexadecimal ("----": none).

    python3 -m venv judge && judge/bin/pip install gsmcodecs==1.0.0
    judge/bin/python make_shift_tables.py > shift_tables.txt
"""

from gsmcodecs.charmaps import GSMCHARMAPS

for language, kinds in sorted(GSMCHARMAPS.items()):
    for kind in sorted(kinds):
        table = kinds[kind]["decode"]
        points = " ".join(f"{table[code]:04X}" if code in table else "----" for code in range(128))
        print(language, kind, points)
