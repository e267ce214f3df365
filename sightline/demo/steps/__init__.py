"""The steps of the demo in order: each feature has a module here, and adds its ``STEPS``."""

from sightline.demo.steps import benchmark, bots, classify, detect, detectors, embed, jobs, operate, pocket, protocol

STEPS = (
    *classify.STEPS,
    *detect.STEPS,
    *embed.STEPS,
    *pocket.STEPS,
    *protocol.STEPS,
    *jobs.STEPS,
    *detectors.STEPS,
    *benchmark.STEPS,
    *bots.STEPS,
    *operate.STEPS,
)
