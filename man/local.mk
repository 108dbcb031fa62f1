# Manual pages: dist_man_MANS += %D%/gyre.7
dist_man_MANS += %D%/gyre-bench.1
dist_man_MANS += %D%/gyre-train.1
