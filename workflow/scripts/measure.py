"""Compute the metrics of the states that a run kept."""

from replica import artifacts, kinds, provenance
from replica.data.prepare import cards_with
from replica.settings.validation import validate_run

job = snakemake
with provenance.one_sentence(job.log[0]):
    spec = validate_run(job.params.spec, job.wildcards.run)
    stamp = provenance.begin_job(job.params, "cpu")
    states, _ = getattr(artifacts, job.params.reader)(job.input.states)
    cards = cards_with(job.params.datasets, job.config["data_dir"])
    table = provenance.function(kinds.measures(spec))(
        spec,
        states,
        run=job.wildcards.run,
        threads=job.threads,
        card=next(iter(cards.values()), None),
    )
    artifacts.write_table(job.output.measures, table, stamp.finish())
