# Snakemake finds this file where it is started; the workflow is in workflow/Snakefile, where its
# catalog expects it.


include: "workflow/Snakefile"


workflow.default_target = "all"
