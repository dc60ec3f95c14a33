"""Takes the screenshots in docs/images from the demonstration: python -m tests.screenshots."""

import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.support.chromium import browser
from tests.support.prometheus import eventually, free_port

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHOTS = {"landing": ("light", 760, 620), "landing-phone": ("dark", 390, 970)}


def main() -> None:
    """Wait until the demonstration shows a missed benchmark, then take the pictures."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-m", "mlops_exporter", "demo", f"--web.listen-address={address}"])
    try:
        eventually(lambda: "failing" in _status(address), 180)
        IMAGES.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory, browser(Path(directory)) as page:
            for name, (scheme, width, height) in SHOTS.items():
                page.open(f"http://{address}/", width=width, height=height, scheme=scheme)
                (IMAGES / f"{name}.png").write_bytes(page.screenshot(optimizeForSpeed=False))
    finally:
        process.terminate()
        process.wait(10)


def _status(address: str) -> str:
    try:
        return httpx.get(f"http://{address}/api/v1/status", trust_env=False).text
    except httpx.TransportError:
        return ""


if __name__ == "__main__":
    main()
