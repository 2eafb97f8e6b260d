//! The page that explains states to users says what the tables say.

use abide_core::table::{AsText, Built, EXECUTIONS, Row, TASKS};

fn table<S: AsText + Copy, M: AsText + Copy>(rows: &[Row<S, M>]) -> String {
    let mut text = String::from("| from | to | by | events |\n| --- | --- | --- | --- |\n");
    for row in rows.iter().filter(|row| row.built == Built::Now) {
        let from: Vec<&str> = row
            .from
            .iter()
            .map(|state| state.map_or("(none)", AsText::text))
            .collect();
        let to: Vec<&str> = match row.to {
            [] => vec!["(the same)"],
            states => states.iter().map(|state| state.text()).collect(),
        };
        let by: Vec<&str> = row.by.iter().map(|by| by.as_str()).collect();
        let events: Vec<String> = row
            .events
            .iter()
            .map(|event| format!("`{event}`"))
            .collect();
        text += &format!(
            "| {} | {} | {} | {} |\n",
            from.join(", "),
            to.join(", "),
            by.join(", "),
            events.join(", ")
        );
    }
    text
}

#[test]
fn the_page_about_states_shows_the_tables() {
    let page = include_str!("../../../docs/states.md");
    for expected in [table(EXECUTIONS), table(TASKS)] {
        assert!(
            page.contains(&expected),
            "docs/states.md should contain:\n\n{expected}"
        );
    }
}
