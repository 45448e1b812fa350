//! The topology machine under any history: it never panics, its orders and events are in order,
//! its state makes sense, and it does the same again.
#![no_main]

use fuzz::topology::{Plan, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|plan: Plan| {
    let mut run = Run::start(&plan.setting);
    for step in &plan.steps {
        run.take(step);
    }
    run.close();
});
