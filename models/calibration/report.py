"""Report of a calibration as one HTML file.

Images are embedded, so that the file can be mailed and opened years later. It is
written for the user who prepared the beads: which beads were found, which were
rejected and why, and the depth error of a single bead.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from models.calibration.evidence import Evidence

__all__ = ["render_report", "with_report"]

_INK, _FAINT, _ACCENT, _WARN = "#1d2b36", "#7d8b96", "#0b7285", "#c2410c"
_DEPTHS_SHOWN = 8
_MOST_THUMBNAILS = 60

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f6f8; color: #1d2b36; font: 16px/1.5 system-ui, 'DejaVu Sans', sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 0 0 8px; }
.quiet { color: #5b6975; margin: 0 0 20px; }
section { background: #fff; border: 1px solid #dde3e8; border-radius: 10px; padding: 20px 24px; margin: 18px 0; }
section p { max-width: 75ch; margin: 4px 0 12px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; }
.figure { background: #fff; border: 1px solid #dde3e8; border-radius: 10px; padding: 12px 16px; }
.figure b { display: block; font-size: 24px; } .figure span { color: #5b6975; font-size: 14px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 20px; }
.note { border-left: 4px solid #f59f00; background: #fff9db; padding: 8px 14px; margin: 8px 0; border-radius: 4px; }
.beads { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 10px; }
.bead { border: 1px solid #dde3e8; border-left: 5px solid #0b7285; border-radius: 6px; padding: 8px 10px;
  font-size: 13px; }
.bead.out { border-left-color: #c2410c; } .bead img { margin: 0 0 6px; width: 100%; image-rendering: pixelated; }
.bead b { font-size: 14px; }
"""


def with_report(calibration: Calibration) -> Calibration:
    """The calibration with its report as `page`."""
    return replace(calibration, page=render_report(calibration))


def render_report(calibration: Calibration) -> str:
    """HTML page of a calibration with evidence.

    Raises
    ------
    ValueError
        When the calibration was loaded from a folder: it has the finished page only.
    """
    evidence = calibration.evidence
    if evidence is None:
        raise ValueError("a loaded calibration has no evidence; its page is in `page`")
    report = calibration.report
    used = [bead for bead in evidence.beads if bead.used]
    low, high = calibration.z_range_um
    parts = [
        f"<h1>Calibration {html.escape(calibration.id)}</h1>",
        f"<p class=quiet>{len(used)} of {len(evidence.beads)} beads joined into one pattern, "
        f"depths {low:g} to {high:g} µm, {calibration.psf.pixel_size_um:g} µm per pixel.</p>",
        _figures(calibration),
        "".join(f"<p class=note>{html.escape(note)}</p>" for note in _remarks(calibration)),
        _section(
            "The pattern of one bead",
            "How a bead looks at each depth: the mean of all beads that were used, each plane with its own brightness "
            "scale. Below, the same pattern cut along the depth axis.",
            _image(_planes_figure(calibration)),
        ),
        _section(
            "Positions of the beads",
            "The field in focus. Rings mark the beads that were used, crosses the rejected ones; "
            "the reasons are listed at the end.",
            _image(_field_figure(calibration, evidence)),
        ),
        "<div class=pair>",
        _section(
            "Focus",
            "Sharpness of the field over the sweep. A single clean peak means that focus was found.",
            _image(_focus_figure(calibration, evidence)),
        ),
        _section(
            "Light and lateral drift",
            "Light of the beads from plane to plane (bleaching, lamp drift) and lateral movement of the whole field. "
            "Both are measured and corrected.",
            _image(_drift_figure(evidence)),
        ),
        "</div>",
        _section(
            "Depth error of one bead",
            "Depth from the image of each bead alone, minus its true depth; one line per bead. A bead that is larger "
            "than the others appears too deep, most of all near focus.",
            _image(_residual_figure(evidence)),
        ),
        _section(
            "Depth over the field",
            _field_text(calibration),
            _image(_map_figure(calibration, used)),
        ),
        _section("All beads, used or rejected", _bead_text(evidence), _bead_cards(calibration, evidence)),
    ]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>Calibration {html.escape(calibration.id)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
        if report
        else ""
    )


def _section(title: str, text: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>{content}</section>"


def _figures(calibration: Calibration) -> str:
    report = calibration.report
    depth = report["field"]["depth"]
    left_out = depth["left_out_residual_um"].get(depth["kind"])
    shown = [
        (f"{report['beads_used']} / {report['beads_found']}", "beads used / found"),
        (f"{calibration.focus_um:.2f} µm", "focus, sweep coordinate"),
        (f"{report['height_residual_um']:.2f} µm", "depth error of one bead about its line"),
        (f"{left_out:.2f} µm" if left_out is not None else "unknown", "difference between beads, field map applied"),
        (f"{calibration.size_variation:.1%}", "bead-to-bead variation of scale"),
        (
            f"{calibration.camera.electrons_per_adu:.2f} e-/ADU",
            f"camera, read noise {calibration.camera.read_noise_e:.1f} e-",
        ),
    ]
    pupil = report.get("pupil")
    if pupil is not None:
        worst = float(np.hypot.reduce(list(pupil["waves"].values())))
        shown.append(
            (
                f"NA/n {pupil['sine']:.3f}, λ/n {pupil['wavelength_um']:.2f} µm",
                f"pupil that fits the pattern, with a bead of {pupil['bead_um']:.1f} µm and aberrations of "
                f"{worst:.2f} waves; the residual of {pupil['unexplained']:.1%} is from the beads alone",
            )
        )
    cells = "".join(f"<div class=figure><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>" for a, b in shown)
    return f"<div class=figures>{cells}</div>"


def _remarks(calibration: Calibration) -> list[str]:
    report = calibration.report
    remarks = [str(note) for note in report["notes"]]
    if report["beads_used"] < 8:
        remarks.append(
            f"Only {report['beads_used']} beads were used: the pattern is sampled at camera pixels only, and there is "
            "no field map. A sample with at least 30 isolated beads gives both."
        )
    change = report["light_end_over_start"]
    if not 0.7 < change < 1.4:
        remarks.append(f"The light changed by a factor of {change:.2f} during the sweep; each plane was scaled for it.")
    return remarks


def _field_text(calibration: Calibration) -> str:
    field = calibration.field
    if field is None:
        return "There is no field map: depths do not depend on the position, or there are too few beads."
    rise = 2 * np.hypot(*field.tilt_um)
    text = (
        f"Apparent height of each bead. The linear part, {rise:.1f} µm across the field, is taken to be the tilt of "
        "the sample. "
    )
    if np.any(field.depth_um):
        text += (
            "The part that is curved or changes with depth is taken to belong to the optics, and is subtracted from "
            "all measured depths. "
        )
    if np.any(field.lateral_um):
        edge = np.array(field.lateral_um)
        text += (
            f"Positions at the edge of the field shift laterally with focus by up to {np.abs(edge).max():.1f} µm; "
            "this is corrected too."
        )
    return text


def _bead_text(evidence: Evidence) -> str:
    text = "Each bead near the low end of the sweep, in focus, and at the high end."
    left = len(evidence.beads) - _MOST_THUMBNAILS
    return text + (f" {left} more used beads are not shown." if left > 0 else "")


def _bead_cards(calibration: Calibration, evidence: Evidence) -> str:
    order = sorted(range(len(evidence.beads)), key=lambda i: (evidence.beads[i].used, evidence.beads[i].reason))
    cards = []
    for index in order[:_MOST_THUMBNAILS]:
        bead = evidence.beads[index]
        place = f"({bead.x_px:.0f}, {bead.y_px:.0f}) px"
        if bead.used:
            text = (
                f"<b>Used</b> {place}<br>height {bead.height_um:+.2f} µm, scale {bead.axial_scale:.3f}, "
                f"depth error {bead.residual_um:.2f} µm"
            )
        else:
            text = f"<b>Rejected</b> {place}<br>{html.escape(bead.reason)}"
        strip = _strip(evidence.thumbnails[index])
        cards.append(f"<div class='bead{'' if bead.used else ' out'}'>{strip}{text}</div>")
    return f"<div class=beads>{''.join(cards)}</div>"


def _strip(planes: NDArray[np.float32]) -> str:
    """Three cut-outs side by side, each scaled to its own brightness."""
    from matplotlib import colormaps, image

    tiles = []
    for plane in planes:
        low, high = float(np.percentile(plane, 5)), float(plane.max())
        tiles.append(np.clip((plane - low) / max(high - low, 1e-9), 0, 1))
        tiles.append(np.ones((plane.shape[0], max(plane.shape[0] // 30, 1))))
    buffer = io.BytesIO()
    image.imsave(buffer, colormaps["magma"](np.hstack(tiles[:-1])), format="png")
    return _embed(buffer)


def _embed(buffer: io.BytesIO) -> str:
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}'>"


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return _embed(buffer)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK)
    axes.grid(alpha=0.25)


def _planes_figure(calibration: Calibration) -> Figure:
    psf = calibration.psf
    figure = _figure(10.5, 5.2)
    grid = figure.add_gridspec(2, _DEPTHS_SHOWN, height_ratios=(1, 1.6))
    extent_um = psf.radius_px * psf.pixel_size_um
    for column, index in enumerate(np.linspace(0, len(psf.z_um) - 1, _DEPTHS_SHOWN).round().astype(int)):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(psf.planes[index], cmap="magma", vmin=0, extent=(-extent_um, extent_um, extent_um, -extent_um))
        axes.set_title(f"{psf.z_um[index]:.0f} µm", fontsize=10, color=_INK)
        axes.set_xticks([])
        axes.set_yticks([])
    centre = psf.planes.shape[1] // 2
    step = psf.z_step_um / 2
    extent = (psf.z_um[0] - step, psf.z_um[-1] + step, extent_um, -extent_um)
    for part, (name, cut) in enumerate((("x", psf.planes[:, centre, :]), ("y", psf.planes[:, :, centre]))):
        half = _DEPTHS_SHOWN // 2
        axes = figure.add_subplot(grid[1, part * half : (part + 1) * half])
        bright = np.clip(cut, 0, None) / np.maximum(psf.planes.max(axis=(1, 2))[:, None], 1e-12)
        axes.imshow(np.sqrt(bright).T, cmap="magma", aspect="auto", extent=extent)
        axes.axvspan(*calibration.z_range_um, color="white", alpha=0.0)
        for limit in calibration.z_range_um:
            axes.axvline(limit, color="white", lw=1, ls="--")
        axes.set_xlabel("depth from focus (µm); dashed: calibrated range", color=_INK)
        axes.set_ylabel(f"{name} (µm)", color=_INK)
    return figure


def _field_figure(calibration: Calibration, evidence: Evidence) -> Figure:
    figure = _figure(8.6, 7.4)
    axes = figure.add_subplot()
    image = evidence.field_image
    low, high = np.percentile(image, (5, 99.8))
    axes.imshow(np.arcsinh(np.clip((image - low) / max(high - low, 1e-9), 0, None) * 10), cmap="gray_r")
    for used, marker, color, label in ((True, "o", _ACCENT, "used"), (False, "x", _WARN, "rejected")):
        places = np.array([(b.x_px, b.y_px) for b in evidence.beads if b.used is used]).reshape(-1, 2)
        if len(places) == 0:
            continue
        style: dict[str, Any] = {"facecolors": "none", "edgecolors": color} if marker == "o" else {"c": color}
        axes.scatter(
            places[:, 0], places[:, 1], s=130, marker=marker, linewidths=1.6, label=f"{len(places)} {label}", **style
        )
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
    axes.set_xlabel("x (pixels)", color=_INK)
    axes.set_ylabel("y (pixels)", color=_INK)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.07), ncols=2, frameon=False)
    del calibration
    return figure


def _focus_figure(calibration: Calibration, evidence: Evidence) -> Figure:
    figure = _figure(5.2, 3.4)
    axes = figure.add_subplot()
    axes.plot(calibration.sweep_z_um, evidence.focus.sharpness, color=_ACCENT)
    axes.axvline(calibration.focus_um, color=_WARN, ls="--", label=f"focus {calibration.focus_um:.2f} µm")
    axes.legend(frameon=False)
    _plain(axes, "sweep position (µm)", "sharpness")
    return figure


def _drift_figure(evidence: Evidence) -> Figure:
    figure = _figure(5.2, 3.8)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(evidence.z_um, evidence.light, color=_ACCENT)
    above.set_ylim(bottom=0)
    _plain(above, "", "relative light")
    below.plot(evidence.z_um, evidence.walk_um[:, 0], color=_ACCENT, label="x")
    below.plot(evidence.z_um, evidence.walk_um[:, 1], color=_WARN, label="y")
    below.legend(frameon=False, ncols=2)
    _plain(below, "depth from focus (µm)", "drift (µm)")
    return figure


def _residual_figure(evidence: Evidence) -> Figure:
    figure = _figure(10.0, 3.4)
    axes = figure.add_subplot()
    for row in evidence.residual_um:
        axes.plot(evidence.z_um, row, color=_ACCENT, alpha=0.25, lw=0.8)
    with np.errstate(all="ignore"):
        finite = np.isfinite(evidence.residual_um)
        known = finite.any(axis=0)
        middle = np.full(evidence.residual_um.shape[1], np.nan)
        middle[known] = [np.median(column[np.isfinite(column)]) for column in evidence.residual_um.T[known]]
    axes.plot(evidence.z_um, middle, color=_WARN, lw=2, label="median of the beads")
    if finite.any():
        reach = float(np.percentile(np.abs(evidence.residual_um[finite]), 99.5))
        axes.set_ylim(-1.3 * reach - 0.05, 1.3 * reach + 0.05)
        places = np.nonzero(known)[0]
        axes.set_xlim(evidence.z_um[places[0]], evidence.z_um[places[-1]])
    axes.legend(frameon=False)
    _plain(axes, "depth from focus (µm)", "measured - true depth (µm)")
    return figure


def _map_figure(calibration: Calibration, used: list[Any]) -> Figure:
    figure = _figure(10.0, 4.2)
    pixel = calibration.psf.pixel_size_um
    x = np.array([bead.x_px for bead in used]) * pixel
    y = np.array([bead.y_px for bead in used]) * pixel
    height = np.array([bead.height_um for bead in used])
    panels = [("apparent height of each bead", height)]
    if calibration.field is not None:
        field = calibration.field
        middle = np.array((field.z_um[0] + field.z_um[-1]) / 2)
        rest = height - field.tilt_at(x, y) - field.depth_error_at(x, y, middle)
        panels += [("residual after the map", rest - np.median(rest))]
    reach = max(float(np.percentile(np.abs(height), 98)), 0.1)
    for column, (title, values) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), column)
        points = axes.scatter(
            x, y, c=values, cmap="RdBu_r", vmin=-reach, vmax=reach, s=55, edgecolors=_FAINT, linewidths=0.5
        )
        axes.set_title(title, fontsize=11, color=_INK)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        _plain(axes, "x (µm)", "y (µm)")
        figure.colorbar(points, ax=axes, label="µm")
    return figure
