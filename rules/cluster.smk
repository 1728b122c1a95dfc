# Cluster: print the devices that its jobs see.


rule leonardo_smoke:
    input:
        expand("<results>/smoke/gpus{gpus}.txt", gpus=machine.smoke["gpus"]),
    log:
        "logs/smoke.log",
    conda:
        "../envs/gpu.yaml"
    shell:
        "cat {input:q} | tee {log:q}"


rule smoke:
    output:
        temp("<results>/smoke/gpus{gpus}.txt"),
    log:
        "logs/smoke/gpus{gpus}.log",
    wildcard_constraints:
        gpus="[1-8]",
    conda:
        "../envs/gpu.yaml"
    threads: machine.all_cores
    resources:
        # Short jobs, in a quality of service that starts them soon.
        **machine.gpu_resources(lambda: machine.smoke["minutes"], qos=machine.smoke["qos"]),
    shell:
        '"$ALETHEIA_PYTHON" -s "$ALETHEIA_SCRIPTS/smoke.py" --gpus {wildcards.gpus} --out {output:q} > {log:q} 2>&1'
