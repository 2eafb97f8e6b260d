//! Whether two graphs run the same, and if not, the first difference. Everything is compared by
//! name, because numbers follow the declared order.

use std::collections::BTreeSet;

use super::{Graph, TaskSpec};

impl Graph {
    /// The first difference between this graph and `recorded`, in words: in its tasks, nodes,
    /// dependencies, trigger rules or output. None if there is no such difference. Retries,
    /// timeouts, priorities, the needs of functions and the declared order may differ.
    pub fn difference_to(&self, recorded: &Graph) -> Option<String> {
        tasks(self, recorded)
            .or_else(|| nodes(self, recorded))
            .or_else(|| output(self, recorded))
    }
}

fn tasks(graph: &Graph, recorded: &Graph) -> Option<String> {
    let changed = |task: &TaskSpec| match find(recorded, &task.id) {
        None => Some(format!("task `{}` is new", task.id)),
        Some(before) if before.trigger != task.trigger => {
            Some(format!("task `{}` has another trigger rule", task.id))
        }
        Some(_) => None,
    };
    let gone = |task: &TaskSpec| match find(graph, &task.id) {
        None => Some(format!("task `{}` is gone", task.id)),
        Some(_) => None,
    };
    let changed = graph.tasks().iter().find_map(changed);
    changed.or_else(|| recorded.tasks().iter().find_map(gone))
}

fn find<'a>(graph: &'a Graph, task: &str) -> Option<&'a TaskSpec> {
    graph.task_index(task).map(|at| &graph.tasks()[at])
}

fn nodes(graph: &Graph, recorded: &Graph) -> Option<String> {
    let gone = recorded.numbers().map(|number| recorded.node_id(number));
    let mut gone = gone.filter(|id| graph.number_of(id).is_none());
    if let Some(id) = gone.next() {
        return Some(format!("node `{id}` is gone"));
    }
    graph.numbers().find_map(|number| {
        let id = graph.node_id(number);
        let Some(before) = recorded.number_of(id) else {
            return Some(format!("node `{id}` is new"));
        };
        let (task, was) = (graph.task_of(number), recorded.task_of(before));
        if task.id != was.id {
            return Some(format!(
                "node `{id}` runs task `{}` instead of `{}`",
                task.id, was.id
            ));
        }
        let waits_for = waits_for(graph, number);
        let waited_for = self::waits_for(recorded, before);
        if let Some(added) = waits_for.difference(&waited_for).next() {
            return Some(format!("`{id}` now waits for `{added}`"));
        }
        let dropped = waited_for.difference(&waits_for).next()?;
        Some(format!("`{id}` no longer waits for `{dropped}`"))
    })
}

fn waits_for(graph: &Graph, number: u32) -> BTreeSet<&str> {
    let dependencies = graph.dependencies(number).iter();
    dependencies.map(|&number| graph.node_id(number)).collect()
}

fn output(graph: &Graph, recorded: &Graph) -> Option<String> {
    fn of(graph: &Graph) -> Option<&str> {
        graph.output().map(|number| graph.node_id(number))
    }
    match (of(graph), of(recorded)) {
        (now, before) if now == before => None,
        (Some(now), Some(before)) => Some(format!("its output is `{now}` instead of `{before}`")),
        (Some(now), None) => Some(format!("its output is `{now}` instead of none")),
        (None, Some(before)) => Some(format!("it has no output instead of `{before}`")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::GraphBuilder;
    use super::*;
    use crate::retry::RetryPolicy;
    use crate::trigger::Trigger;

    /// `a`, then `b` and `c`, then `d`, whose output is the graph's.
    fn diamond(change: impl FnOnce(&mut Vec<TaskSpec>, &mut Vec<(&str, &str)>)) -> GraphBuilder {
        let mut tasks: Vec<TaskSpec> = ["a", "b", "c", "d"].map(TaskSpec::new).into();
        let mut edges = vec![("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
        change(&mut tasks, &mut edges);
        let mut builder = GraphBuilder::new();
        for task in tasks {
            builder.node(task.id.clone(), &task.id);
            builder.task(task);
        }
        for (from, to) in edges {
            builder.edge(from, to);
        }
        builder
    }

    fn built(mut builder: GraphBuilder, output: &str) -> Graph {
        builder.output(output);
        builder.build().expect("sound")
    }

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut Vec<TaskSpec>, &mut Vec<(&str, &str)>),
        expected: Option<&str>,
    ) {
        let recorded = built(diamond(|_, _| {}), "d");
        let changed = built(diamond(change), "d");
        assert_eq!(changed.difference_to(&recorded).as_deref(), expected);
        let back = recorded.difference_to(&changed);
        assert_eq!(back.is_some(), expected.is_some(), "{back:?}");
    }

    #[test]
    fn tasks_dependencies_and_rules_make_another_graph() {
        check(
            |tasks, edges| {
                tasks.push(TaskSpec::new("e"));
                edges.push(("d", "e"));
            },
            Some("task `e` is new"),
        );
        check(
            |tasks, edges| {
                tasks.remove(2);
                edges.retain(|(from, to)| *from != "c" && *to != "c");
            },
            Some("task `c` is gone"),
        );
        check(
            |_, edges| edges.push(("b", "c")),
            Some("`c` now waits for `b`"),
        );
        check(
            |_, edges| edges.retain(|edge| *edge != ("a", "c")),
            Some("`c` no longer waits for `a`"),
        );
        check(
            |tasks, _| tasks[3].trigger = Some(Trigger::Success("b".to_owned())),
            Some("task `d` has another trigger rule"),
        );
    }

    #[test]
    fn the_output_is_part_of_the_graph() {
        let recorded = built(diamond(|_, _| {}), "d");
        let other = built(diamond(|_, _| {}), "c");
        let difference = other.difference_to(&recorded);
        assert_eq!(
            difference.as_deref(),
            Some("its output is `c` instead of `d`")
        );
        let none = diamond(|_, _| {}).build().expect("sound");
        assert!(none.difference_to(&recorded).is_some());
        assert!(recorded.difference_to(&none).is_some());
    }

    #[test]
    fn a_node_may_come_go_or_run_another_task() {
        let two = |nodes: &[(&str, &str)]| {
            let mut builder = GraphBuilder::new();
            builder.task(TaskSpec::new("hash"));
            builder.task(TaskSpec::new("size"));
            for (id, task) in nodes {
                builder.node(*id, task);
            }
            builder.build().expect("sound")
        };
        let recorded = two(&[("x", "hash"), ("y", "size")]);
        let check = |nodes: &[(&str, &str)], expected: &str| {
            let difference = two(nodes).difference_to(&recorded);
            assert_eq!(difference.as_deref(), Some(expected));
        };
        check(&[("x", "hash")], "node `y` is gone");
        check(
            &[("x", "hash"), ("y", "size"), ("z", "size")],
            "node `z` is new",
        );
        check(
            &[("x", "hash"), ("y", "hash")],
            "node `y` runs task `hash` instead of `size`",
        );
    }

    #[test]
    fn options_and_the_order_of_declaration_make_no_other_graph() {
        check(
            |tasks, edges| {
                tasks[1].retry = RetryPolicy {
                    retries: 5,
                    ..RetryPolicy::default()
                };
                tasks[2].timeout_us = Some(1);
                tasks[3].priority = 7;
                tasks[0].uses.handle = true;
                tasks.reverse();
                edges.reverse();
            },
            None,
        );
    }
}
