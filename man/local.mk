# Manual pages: dist_man_MANS += %D%/gyre.7
dist_man_MANS += %D%/gyre-bench.1
dist_man_MANS += %D%/gyre-info.1
dist_man_MANS += %D%/gyre-train.1
dist_man_MANS += %D%/gyre-wan.1
dist_man_MANS += %D%/gyrerun.1
dist_man_MANS += %D%/gyre.7
dist_man_MANS += %D%/gyre-env.7
dist_man_MANS += %D%/gyre-training.7
dist_man_MANS += %D%/gyre-verbs.7
gy_man3 = \
	%D%/gyre_allgather.3 \
	%D%/gyre_allreduce.3 \
	%D%/gyre_barrier.3 \
	%D%/gyre_broadcast.3 \
	%D%/gyre_comm_agree.3 \
	%D%/gyre_comm_rank.3 \
	%D%/gyre_context_create.3 \
	%D%/gyre_delayed_create.3 \
	%D%/gyre_dts_attr.3 \
	%D%/gyre_mem_alloc.3 \
	%D%/gyre_reduce_scatter.3 \
	%D%/gyre_request_wait.3 \
	%D%/gyre_send.3 \
	%D%/gyre_type_size.3
dist_man_MANS += $(gy_man3)

# A page is installed under each name of its NAME section: "PAGE OTHER-NAME", one pair a line.
gy_man3_links = cd $(srcdir) && awk '/^\.Sh/ { in_name = $$2 == "NAME"; n = split(FILENAME, path, "/") } \
	in_name && /^\.Nm/ && $$2 ".3" != path[n] { print path[n], $$2 ".3" }' $(gy_man3)
install-data-hook:
	@($(gy_man3_links)) | while read page name; do \
		echo ".so man3/$$page" >"$(DESTDIR)$(man3dir)/$$name"; \
	done
uninstall-hook:
	@($(gy_man3_links)) | while read page name; do \
		rm -f "$(DESTDIR)$(man3dir)/$$name"; \
	done
