# Manual pages: dist_man_MANS += %D%/gyre.7
