//! Starting executions.

use abide_core::event::EventType;
use abide_core::kernel::{IfExists, Refusal, Start};
use abide_core::status::ExecutionStatus;
use serde_json::json;

use super::offers::Offers;
use super::said::Said;
use super::state::{Fact, Node, Run, Told, Who};
use super::{Oracle, Outcome};

impl Oracle {
    /// The same workflow with the same input gets the execution that is there, whatever its status;
    /// another is refused. A new generation only follows one that has ended.
    pub(super) fn start(&mut self, start: &Start, offers: &mut Offers) -> Outcome {
        let of_instance = |run: &&Run| run.instance == start.instance;
        let latest = self.runs.values().filter(of_instance);
        let latest = latest.max_by_key(|run| run.generation);
        let mut generation = 1;
        if let Some(latest) = latest {
            let anew = start.if_exists == IfExists::StartAnew && latest.status.is_terminal();
            if !anew || latest.workflow != start.workflow {
                return is_there(latest, start);
            }
            generation = latest.generation + 1;
        }
        let run = self.recorded(start, generation);
        self.runs.insert(start.id, run);
        let ready = self.settle(start.id);
        let mut claimed = self.hand_out(start.id, &ready, start.offer.as_ref(), offers);
        for taken in &mut claimed {
            let run = self.run(start.id);
            let own = run.node_inputs.get(&taken.key.number);
            let input = own.or(run.input.as_ref());
            taken.input = input.map(|input| input.as_str().to_owned());
        }
        Ok(Said::Started {
            id: start.id,
            generation,
            status: self.run(start.id).status,
            created: true,
            claimed,
        })
    }

    /// The execution as it is before anything follows from its start.
    fn recorded(&self, start: &Start, generation: u32) -> Run {
        let start_at = start.start_at.filter(|at| *at > self.now);
        let mut data = json!({
            "instance": &*start.instance,
            "workflow": start.workflow,
            "tasks": start.graph.len(),
        });
        if let Some(input) = &start.input {
            data["input"] = json!(input.digest());
        }
        if let Some(at) = start_at {
            data["start_at"] = json!(at);
        }
        if let Some(at) = start.deadline_at {
            data["deadline_at"] = json!(at);
        }
        if start.priority != 0 {
            data["priority"] = json!(start.priority);
        }
        let created = Fact {
            kind: EventType::ExecutionCreated,
            at: self.now,
            who: Who::actor(start.actor.clone()),
            attempt: None,
            epoch: None,
            from: None,
            to: ExecutionStatus::Pending.as_str(),
            data: Told::Value(data),
        };
        let numbers = start.graph.numbers();
        Run {
            id: start.id,
            instance: start.instance.clone(),
            generation,
            workflow: start.workflow,
            graph: start.graph.clone(),
            own_graph: start.own_graph,
            input: start.input.clone(),
            input_hash: start.input_hash.clone(),
            node_inputs: start.node_inputs.iter().cloned().collect(),
            tags: start.tags.clone(),
            priority: start.priority,
            start_at,
            deadline_at: start.deadline_at,
            grace_until: None,
            held_back: start_at.is_some(),
            deadline_passed: false,
            grace_passed: false,
            status: ExecutionStatus::Pending,
            reason: None,
            stop_cause: None,
            failed_task: None,
            history: vec![created],
            nodes: numbers.map(|number| Node::new(number, self.now)).collect(),
        }
    }
}

/// What somebody hears who starts what exists.
fn is_there(latest: &Run, start: &Start) -> Outcome {
    let (instance, execution) = (start.instance.to_string(), latest.id);
    if start.if_exists == IfExists::Reject {
        let status = latest.status;
        return Err(Refusal::InstanceExists {
            instance,
            execution,
            status,
        });
    }
    if latest.workflow != start.workflow {
        return Err(Refusal::OtherWorkflow {
            instance,
            execution,
            // See `without_names`.
            found: String::new(),
            asked: String::new(),
        });
    }
    if latest.input_hash != start.input_hash {
        return Err(Refusal::DifferentInput {
            instance,
            execution,
        });
    }
    Ok(Said::Started {
        id: latest.id,
        generation: latest.generation,
        status: latest.status,
        created: false,
        claimed: Vec::new(),
    })
}
