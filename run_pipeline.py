"""The one command: plan, run, resume, report.

python run_pipeline.py --stages train,prune,finetune,quantize [--config C] [key.path=value ...]
"""

import sys

from pipeline.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
