"""A nightly job: score a table and send it whole. Run again, it counts once: python batch.py 2026-11-28 [URL]."""

import sys

import joblib
from train import FEATURES, customers

from mlops_exporter.client import Monitor

day = sys.argv[1]
url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:10042"

model = joblib.load("credit.joblib")
table = customers(2000, seed=int(day.replace("-", "")))
table["p"] = model.predict_proba(table[FEATURES])[:, 1]
table["request"] = [f"{day}/{number}" for number in range(len(table))]

monitor = Monitor(url, model="credit")
columns = {"id": "request", "score": "p", "label": "y", "features": FEATURES, "groups": ["sex"]}
receipt = monitor.send_table(table, columns=columns, run=f"credit {day}")
print(f"{receipt.accepted} taken, {receipt.refused or 'none'} refused")
sys.exit(3 if receipt.refused else 0)
