"""Topics of the performance page, in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.report import bench_tables, experiment_tables
from evaluation.report.records import Record

__all__ = ["TOPICS", "Topic"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One section of the page.

    Attributes
    ----------
    name : str
        Folder of its records.
    title : str
    text : str
        Conditions, and how the tables are read.
    tables : callable
        Markdown of the records' tables.
    """

    name: str
    title: str
    text: str
    tables: Callable[[Sequence[Record]], list[str]]


TOPICS: tuple[Topic, ...] = (
    Topic(
        "snr",
        "Accuracy by signal-to-noise ratio",
        "Simulated. Jaccard index within 10 µm, 20 points, ± jackknife over frames.",
        experiment_tables.by_light("snr", "Published form, by SNR in dB", "snr_db"),
    ),
    Topic(
        "density",
        "Accuracy by density",
        "Simulated. Jaccard index within 10 µm, ± jackknife over frames.",
        experiment_tables.by_light("density", "Published form, 30 dB, by the number of points", "points"),
    ),
    Topic("isolated", "One emitter alone", "Simulated, 100 frames per cell.", experiment_tables.isolated),
    Topic(
        "resolution",
        "Resolution",
        "Simulated. Two emitters, apart laterally or axially; -: none.",
        experiment_tables.resolution,
    ),
    Topic(
        "stacked",
        "Two emitters at one lateral position",
        "Simulated.",
        experiment_tables.stacked,
    ),
    Topic(
        "ghosts",
        "Emitters with negative defocus",
        "Simulated. False localizations for each emitter at -20 to -3 µm; the target is at most 0.1.",
        experiment_tables.ghosts,
    ),
    Topic(
        "depth",
        "Depth",
        "Simulated. 40 beads in 200 x 200 x 100 µm³, 30,000 photo-electrons on 5 e⁻/px.",
        experiment_tables.depth,
    ),
    Topic(
        "psf",
        "Measured and computed PSF",
        "Simulated. 30,000 photo-electrons on 5 e⁻/px. `(computed)`: PSF from the data sheet, else from the sweep.",
        experiment_tables.psf,
    ),
    Topic(
        "cells",
        "Cells",
        "Simulated. 5-µm bodies in a vessel over autofluorescence, 1.5 s at 100 frames/s: 5 (sparse), 15 (as it is) or "
        "40 (dense). Calibrated with beads, with beads and the size of the cells, or with cells.",
        experiment_tables.cells,
    ),
    Topic(
        "trackers",
        "Trackers on the same localizations",
        "Simulated localizations in 200 x 200 x 100 µm³ at 100 frames/s. Standard: recall 0.9, 5 % false, sigma "
        "0.5/0.5/1.5 µm; hard: recall 0.75 in bursts, 15 % false, sigma growing with depth; fine: recall 0.95, "
        "3 % false, sigma 0.15/0.15/0.3 µm. Ours has one setting; the others are tuned for each cell on other seeds.",
        experiment_tables.trackers,
    ),
    Topic(
        "moving",
        "Moving emitters: single frames, tracks and the image filter",
        "Simulated, 100 frames/s in the published volume, the first ten frames not scored. Jaccard index within 10 µm, "
        "mean over movies with its standard error (axial RMSE in µm). Thresholds are those of other movies. The "
        "network of the hidden optics had 2,144 training frames only.",
        experiment_tables.moving,
    ),
    Topic(
        "tracking",
        "Tracks of what each method finds in movies",
        "Simulated. With the tracker of that date, a constant-velocity Kalman filter.",
        experiment_tables.tracking,
    ),
    Topic("brownian", "Diffusion", "Simulated. 1 is exact.", experiment_tables.brownian),
    Topic("training-size", "Size of the training", "Simulated.", experiment_tables.training_size),
    Topic(
        "adoption",
        "Other optics: from a sweep to a model in 10 minutes",
        "Simulated. Jaccard index within a tenth of the depth range; two cores, one of which exposes the sweep.",
        experiment_tables.adoption,
    ),
    Topic(
        "beads",
        "Real beads",
        "A sweep of beads, 10x/0.45, 1.6 µm/px, 1-µm steps: beads in the black squares of a checkerboard calibrate, "
        "those in the white squares are scored from 3 to 55 µm. Bias and the tilt of the slide are removed.",
        bench_tables.beads,
    ),
    Topic(
        "dense-beads",
        "Real beads, dense frames",
        "Frames composed of three planes of the same sweep, 246 emitters a frame.",
        bench_tables.dense_beads,
    ),
    Topic(
        "baseline-isolated",
        "Baseline: published fit of isolated emitters",
        "Simulated, exact PSF, maximum likelihood of smappy-smlm. RMS error over the Cramér-Rao bound, lateral / axial "
        "(fits per second); ± 0.10 laterally, ± 0.14 axially.",
        bench_tables.baseline_isolated,
    ),
    Topic(
        "baseline-beads",
        "Baseline: published fit of the real beads",
        "The sweep of the real beads above, every second plane, maximum likelihood.",
        bench_tables.baseline_beads,
    ),
    Topic(
        "democamera",
        "Micro-Manager's DemoCamera",
        "`calibrate --live`, `train`, then frames between the planes of the sweep: median error of depth over the "
        "isolated beads, µm, by stage position. The target is 1 µm.",
        bench_tables.rows_of_files,
    ),
    Topic(
        "live",
        "Live rate and latency",
        "The whole instrument: 20 emitters, recording on, 20 stream clients of which 2 never read, 5 history queries a "
        "second. Latency from mid-exposure. The DemoCamera has no truth.",
        bench_tables.live,
    ),
    Topic(
        "soak",
        "Ten minutes live",
        "Memory of each process, median of the first and the last minute.",
        bench_tables.rows_of_files,
    ),
    Topic("kills", "Killed while recording", "SIGKILL of the engine at random moments.", bench_tables.kills),
    Topic(
        "localize",
        "Localize: time per frame",
        "ms of processor time per frame on one thread, by frame size and batch; shipped weights, 20 emitters.",
        bench_tables.localize,
    ),
    Topic(
        "track",
        "Track: time per step",
        "ms of processor time per frame on one thread, median (99th percentile), by the number of targets; 50 targets "
        "in 200 x 200 x 100 µm³, recall 0.9, 5 % false.",
        bench_tables.track,
    ),
    Topic(
        "filter",
        "Image filter: time per frame",
        "ms of processor time per frame on one thread, mean (99th percentile), by the number of emitters; 256 x 256 "
        "px, the scene of the live rate. The search of the residual is made in each frame of a full fit, and in one of "
        "four of those with few steps.",
        bench_tables.image_filter,
    ),
    Topic(
        "fits",
        "Fit: time per frame",
        "Processor time per frame (emitters per second); 256 x 256 px, 20 dB, exact PSF, median over frames.",
        bench_tables.fits,
    ),
    Topic(
        "sweep",
        "From a sweep to tracks without training",
        "Simulated microscope, real service over HTTP: a slide of beads, depths of 0 to 100 µm in 1-µm steps. The "
        "first track is that which a client of the stream receives. Accuracy: 20 moving points at 20 dB in the same "
        "optics, all frames fitted, thresholds of other movies.",
        bench_tables.sweep,
    ),
    Topic("training", "Calibration and training time", "Two cores, nothing else running.", bench_tables.rows_of_files),
    Topic("api", "API", "Processor time of the API process for live tracks.", bench_tables.api),
    Topic(
        "relay",
        "Relay",
        "Played scopes with 300 tracks (17 kB a message) through a NATS server and a relay; all on one machine. "
        "Delivered: share of the published messages times viewers; a viewer that does not keep up gets the newest.",
        bench_tables.relay,
    ),
    Topic(
        "queries",
        "API: queries of an hour of tracks",
        "One hour at 100 frames/s with 50 tracks in view: 18 million points. A second run is written at three times "
        "the live rate meanwhile. Windows are of 10 s (50,000 points), anywhere in the hour. Milliseconds; cpu: "
        "processor time of the API.",
        bench_tables.queries,
    ),
    Topic(
        "storage",
        "Storage: codec of recordings",
        "Processor time and size per frame of the reference scene (20 emitters, 12-bit camera), one chunk per frame, "
        "shards of 64. lz4, level 5, shuffled bits is used.",
        bench_tables.rows_of_files,
    ),
    Topic(
        "storage-path",
        "Storage: whole way to the disk",
        "Compress, write the shard, its log and the shapes: ms per frame, user and system time.",
        bench_tables.rows_of_files,
    ),
)
"""All topics."""
