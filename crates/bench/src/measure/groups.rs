//! Every figure there is: what it is called, what it means, and who measures it.

use super::{Figure, Group, foreign, functions, graphs, idle, one_step, processes, wakes};

/// Every group, in the order of the table.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "one_step",
        figures: &[
            Figure {
                name: "one_step_workflows_per_s",
                says: "workflows of one step, started by 512 callers that wait for the results, while the same process runs them",
            },
            Figure {
                name: "bytes_per_workflow",
                says: "what one of them takes on disk, indexes and history included",
            },
            Figure {
                name: "commits_per_1k_workflows",
                says: "transactions for a thousand of them",
            },
            Figure {
                name: "wal_bytes_per_workflow",
                says: "write-ahead log of one of them (PostgreSQL; of the whole server, so let nothing else run there)",
            },
            Figure {
                name: "statements_per_1k_tasks",
                says: "statements sent for a thousand of them (PostgreSQL)",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(one_step::submitted_while_running(setting)),
    },
    Group {
        name: "backlog",
        figures: &[
            Figure {
                name: "backlog_workflows_per_s",
                says: "100,000 of them started before anybody runs any, then run by one process; over both times",
            },
            Figure {
                name: "backlog_drained_per_s",
                says: "the same, over the time of running alone",
            },
            Figure {
                name: "backlog_deep_share",
                says: "how fast the first quarter of them ended, with most of the queue still there, for 1 of the last quarter",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(one_step::backlog(setting)),
    },
    Group {
        name: "chain",
        figures: &[Figure {
            name: "chain_step_ms",
            says: "a step of a chain of 100 tasks, the median of 20 chains; the floor writes the same rows in one commit",
        }],
        by_name_only: false,
        run: |setting| Box::pin(graphs::chain(setting)),
    },
    Group {
        name: "chains",
        figures: &[Figure {
            name: "chains_steps_per_s",
            says: "steps of 100 chains side by side",
        }],
        by_name_only: false,
        run: |setting| Box::pin(graphs::chains(setting)),
    },
    Group {
        name: "fanout_1k",
        figures: &[Figure {
            name: "fanout_1k_s",
            says: "a graph of 1,000 parallel tasks between a first and a last, from start to end",
        }],
        by_name_only: false,
        run: |setting| Box::pin(graphs::fanout(setting, "fanout_1k_s", 1_000)),
    },
    Group {
        name: "fanout_10k",
        figures: &[Figure {
            name: "fanout_10k_s",
            says: "the same of 10,000",
        }],
        by_name_only: false,
        run: |setting| Box::pin(graphs::fanout(setting, "fanout_10k_s", 10_000)),
    },
    Group {
        name: "fanout_100k",
        figures: &[
            Figure {
                name: "fanout_100k_s",
                says: "the same of 99,998, the most that a graph may have",
            },
            Figure {
                name: "fanout_100k_rss_mb",
                says: "the most memory that the process had meanwhile",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(graphs::largest_fanout(setting)),
    },
    Group {
        name: "function",
        figures: &[Figure {
            name: "function_step_ms",
            says: "a recorded step of one durable function, one after the other; the floor is one commit of the same row",
        }],
        by_name_only: false,
        run: |setting| Box::pin(functions::one(setting)),
    },
    Group {
        name: "functions",
        figures: &[Figure {
            name: "functions_steps_per_s",
            says: "recorded steps of 100 functions side by side",
        }],
        by_name_only: false,
        run: |setting| Box::pin(functions::many(setting)),
    },
    Group {
        name: "wakes",
        figures: &[
            Figure {
                name: "wakes_per_s",
                says: "20,000 functions that left memory to sleep until the same moment, from that moment to the last one's end, on 4 slots",
            },
            Figure {
                name: "commits_per_1k_wakes",
                says: "transactions for a thousand of them",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(wakes::all_at_once(setting)),
    },
    Group {
        name: "idle",
        figures: &[
            Figure {
                name: "idle_start_to_done_p50_ms",
                says: "from the start of a workflow of one step to its result, with nothing else to do; the floor is two commits",
            },
            Figure {
                name: "idle_start_to_done_p99_ms",
                says: "the same, the slowest of a hundred",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(idle::start_to_done(setting)),
    },
    Group {
        name: "idle_cpu",
        figures: &[Figure {
            name: "idle_cpu_pct",
            says: "processor time of a process with nothing to do",
        }],
        by_name_only: false,
        run: |setting| Box::pin(idle::cpu(setting)),
    },
    Group {
        name: "ready_to_running",
        figures: &[
            Figure {
                name: "ready_to_running_p50_ms",
                says: "from the commit's time of a task that one process makes ready to its begin in another",
            },
            Figure {
                name: "ready_to_running_p99_ms",
                says: "the same, the slowest of a hundred",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(processes::ready_to_running(setting)),
    },
    Group {
        name: "workers",
        figures: &[
            Figure {
                name: "workers_1_workflows_per_s",
                says: "workflows of one step that one process starts and another runs, through the outbox",
            },
            Figure {
                name: "workers_2_workflows_per_s",
                says: "the same, run by 2 processes",
            },
            Figure {
                name: "workers_4_workflows_per_s",
                says: "by 4",
            },
            Figure {
                name: "workers_8_workflows_per_s",
                says: "by 8",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(processes::workers(setting)),
    },
    Group {
        name: "idle_queries",
        figures: &[Figure {
            name: "idle_queries_per_s",
            says: "statements that a process with nothing to do sends (PostgreSQL)",
        }],
        by_name_only: false,
        run: |setting| Box::pin(idle::queries(setting)),
    },
    Group {
        name: "foreign_transaction",
        figures: &[
            Figure {
                name: "foreign_transaction_minute_N_workflows_per_s",
                says: "as workers_2, minute by minute, while another connection keeps a transaction open (PostgreSQL)",
            },
            Figure {
                name: "foreign_transaction_worst_share",
                says: "the lowest of these minutes for 1 of the first",
            },
        ],
        by_name_only: false,
        run: |setting| Box::pin(foreign::transaction(setting)),
    },
    Group {
        name: "undisturbed",
        figures: &[
            Figure {
                name: "undisturbed_minute_N_workflows_per_s",
                says: "the same without that transaction, to compare with (PostgreSQL)",
            },
            Figure {
                name: "undisturbed_worst_share",
                says: "the lowest of these minutes for 1 of the first",
            },
        ],
        by_name_only: true,
        run: |setting| Box::pin(foreign::none(setting)),
    },
];
