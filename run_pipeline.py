"""The one command: plan, run, resume, report.

python run_pipeline.py --stages train,prune,finetune,quantize [--config C] [key.path=value ...]
"""

import os
import sys

# Before torch is imported: with these, kernels on CUDA give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from pipeline.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
