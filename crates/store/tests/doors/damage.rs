//! What is damaged on a server's disk: only those suffer who need it.

use abide_core::graph::Uses;
use abide_core::payload::Payload;
use abide_store::StoreError;

use crate::home::{Home, single};

/// A text that does not get shorter by compression, and lies in pieces beside its row.
fn incompressible(length: usize) -> String {
    let mut state = 1_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 32) % 75).expect("small"))
    };
    let text: String = (0..length).map(letter).collect();
    text.replace(['\\', '"'], " ")
}

#[tokio::test]
async fn an_input_that_is_damaged_is_the_trouble_of_its_task_only() {
    let home = Home::new().await;
    let known = "SELECT name FROM pg_available_extensions WHERE name = 'pg_surgery'";
    if home.database.rows(&[known]).await[0].is_empty() {
        println!("the server came without pg_surgery: nothing can be damaged");
        return;
    }
    let start = async |text: String| {
        let mut start = home.request(&single()).await;
        start.input = Some(Payload::from_json(format!("\"{text}\"")));
        home.store.start(start).await.expect("starts").id
    };
    let spoilt = start(incompressible(3500)).await;
    home.execute("CREATE EXTENSION IF NOT EXISTS pg_surgery SCHEMA public")
        .await;
    home.execute(
        "DO $$ DECLARE toast regclass; pieces tid[]; BEGIN \
         SELECT reltoastrelid::regclass INTO toast FROM pg_class WHERE oid = 'executions'::regclass; \
         EXECUTE format('SELECT array_agg(ctid) FROM %s', toast) INTO pieces; \
         PERFORM public.heap_force_kill(toast, pieces); END $$",
    )
    .await;
    let sound = start("sound".to_owned()).await;

    let claimed = home.claim_all().await;
    let ids = claimed.iter().map(|claimed| claimed.task.key.execution);
    assert_eq!(ids.collect::<Vec<_>>(), [spoilt, sound]);
    let uses = Uses {
        input: true,
        ..Uses::default()
    };
    // Many at once, so that they are read together.
    let ask = |of: usize| {
        let (store, claimed, uses) = (home.store.clone(), claimed[of].clone(), uses);
        tokio::spawn(async move { store.inputs(&claimed, &uses).await })
    };
    let asked: Vec<_> = (0..100).map(|n| (n % 2, ask(n % 2))).collect();
    for (of, found) in asked {
        let found = found.await.expect("runs").map(|inputs| inputs.input);
        match (of, found) {
            (0, Err(StoreError::Corrupt { .. })) => {}
            (1, Ok(Some(input))) => assert_eq!(input, Payload::from_json("\"sound\"")),
            (_, other) => panic!("{other:?}"),
        }
    }
    // Later claims bring their inputs again.
    start("again".to_owned()).await;
    let input = home.claim().await.input;
    assert_eq!(input, Some(Payload::from_json("\"again\"")));
}
