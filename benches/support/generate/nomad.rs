//! Nomad's state: an empty msgpack header, then a type byte and one msgpack value each. Nearly every record holds maps,
//! and an allocation holds its whole job.

use super::consul::distinct;
use super::encode::{Pack, Rng, pair, word_at};
use super::{Made, Shape, archive};

const fn shape(share: u64, count_min: u64, restless: bool) -> Shape {
    Shape { share, count_min, restless }
}

/// In about Nomad's order: time table, indexes, nodes, jobs, evaluations, allocations, summaries, versions, deployments,
/// tokens.
pub const SHAPES: &[Shape] = &[
    shape(0, 1, true),
    shape(0, 12, true),
    shape(9, 3, false),
    shape(110, 3, false),
    shape(15, 4, false),
    shape(697, 4, false),
    shape(4, 3, false),
    shape(153, 3, false),
    shape(10, 3, false),
    shape(2, 2, false),
];

/// Appends a record.
pub fn object(made: &Made, pack: &mut Pack<'_>) {
    let write = [time_table, index, node, job, eval, alloc, summary, job, deployment, token][made.table];
    pack.out.push([5, 2, 0, 1, 3, 4, 7, 9, 10, 12][made.table]);
    write(made, pack);
}

fn time_table(made: &Made, pack: &mut Pack<'_>) {
    pack.array(72);
    for i in 0..72 {
        let step = u64::from(made.version).saturating_sub(i / 2);
        let time = archive::unix_s(made.version).saturating_sub(300 * i);
        pack.map(2).str("Index").uint(7_000 + 61 * step).str("Time").time(time, 0);
    }
}

fn index(made: &Made, pack: &mut Pack<'_>) {
    pack.map(2).str("Key").str(word_at(made.identity, 0)).str("Value").uint(made.modify_index);
}

fn node(made: &Made, pack: &mut Pack<'_>) {
    let (id, mut base, mut changed) = (made.identity, made.base(), made.changed());
    let seed = base.next();
    let mut attributes: Vec<_> = (0..60)
        .map(|i| {
            let name = format!("{}.{}.{}", word_at(i << 58, 0), ["version", "unique", "driver"][i as usize % 3], i);
            let value = if i < 45 { Rng::of(&[i]).words(2, "-") } else { base.hex(14) };
            (name, value)
        })
        .collect();
    attributes.push(pair("unique.storage.bytesfree", changed.below(1 << 40).to_string()));
    pack.map(9).str("Attributes").go_map(&distinct(attributes), seed).str("ComputedClass");
    pack.str(&format!("v1:{}", base.next())).str("CreateIndex").uint(made.create_index).str("Datacenter").str("dc1");
    pack.str("Drivers").map(3);
    for driver in ["docker", "exec", "raw_exec"] {
        pack.str(driver).map(3).str("Attributes").go_map(&[(format!("driver.{driver}"), "true".into())], seed);
        pack.str("Healthy").bool(true).str("UpdateTime").time(archive::unix_s(0), base.next() as u32 % 1_000_000_000);
    }
    let links = [pair("consul", base.words(3, ".")), pair("aws.ec2", base.hex(17))];
    pack.str("ID").str(&base.uuid(id)).str("Links").go_map(&links, seed + 1);
    pack.str("ModifyIndex").uint(made.modify_index).str("StatusUpdatedAt").uint(archive::unix_s(made.version));
}

/// The name of a job and the seed of its bytes.
fn job_name(id: u64) -> String {
    format!("{}-{}-{:x}", word_at(id, 0), word_at(id, 1), id >> 40 & 0xfff)
}

fn job(made: &Made, pack: &mut Pack<'_>) {
    job_body(made.identity, made.version, made.create_index, made.modify_index, pack);
}

/// A job of two or three groups with two tasks each: about 6 KB.
fn job_body(id: u64, version: u32, create_index: u64, modify_index: u64, pack: &mut Pack<'_>) {
    let (mut base, mut changed) = (Rng::of(&[id]), Rng::of(&[id, u64::from(version)]));
    let name = job_name(id);
    let seed = base.next();
    let meta = [
        pair("owner", base.word()),
        pair("git_sha", changed.hex(40)),
        pair("deployed_by", format!("ci-{}", changed.below(1_000_000))),
    ];
    pack.map(23).str("Affinities").nil().str("AllAtOnce").bool(false).str("Constraints").array(1).map(3);
    pack.str("LTarget").str("${attr.kernel.name}").str("Operand").str("=").str("RTarget").str("linux");
    pack.str("ConsulNamespace").str("").str("ConsulToken").str("").str("CreateIndex").uint(create_index);
    pack.str("Datacenters").array(1).str("dc1").str("Dispatched").bool(false).str("ID").str(&name);
    pack.str("JobModifyIndex").uint(modify_index).str("Meta").go_map(&meta, seed).str("ModifyIndex").uint(modify_index);
    pack.str("Name").str(&name).str("Namespace").str("default").str("NomadTokenID").str(&base.uuid(id));
    pack.str("Periodic").nil().str("Priority").uint(50).str("Region").str("global").str("Stable").bool(true);
    pack.str("Status").str(["running", "pending", "dead"][changed.below(3) as usize]);
    pack.str("SubmitTime").uint(archive::unix_s(version) * 1_000_000_000 + changed.below(1_000_000_000));
    pack.str("TaskGroups").array(2);
    for group in 0..2 {
        task_group(&name, group, seed + 10 * group, &mut base, &mut changed, pack);
    }
    pack.str("Version").uint(u64::from(version));
}

fn task_group(job: &str, group: u64, seed: u64, base: &mut Rng, changed: &mut Rng, pack: &mut Pack<'_>) {
    let meta = [pair("team", base.word()), pair("git_sha", changed.hex(40))];
    pack.map(9).str("Count").uint(1 + base.below(3)).str("EphemeralDisk").map(3).str("Migrate").bool(false);
    pack.str("SizeMB").uint(300).str("Sticky").bool(false).str("Meta").go_map(&meta, seed).str("Migrate").map(4);
    pack.str("HealthCheck").str("checks").str("HealthyDeadline").uint(300_000_000_000).str("MaxParallel").uint(1);
    pack.str("MinHealthyTime").uint(10_000_000_000).str("Name").str(["app", "worker1"][group as usize]);
    networks(base, pack);
    pack.str("RestartPolicy").map(4).str("Attempts").uint(3).str("Delay").uint(15_000_000_000);
    pack.str("Interval").uint(600_000_000_000).str("Mode").str("delay").str("Services").array(1).map(10);
    pack.str("AddressMode").str("auto").str("Checks").array(1).map(9).str("AddressMode").str("").str("Args").nil();
    pack.str("Interval").uint(10_000_000_000).str("Method").str("").str("Name").str(&format!("{job} http"));
    pack.str("OnUpdate").str("require_healthy").str("Path").str("/health").str("Timeout").uint(2_000_000_000);
    pack.str("Type").str("http").str("Connect").nil().str("EnableTagOverride").bool(false).str("Meta").nil();
    pack.str("Name").str(job).str("Namespace").str("default").str("OnUpdate").str("require_healthy");
    pack.str("PortLabel").str("http").str("Tags").array(2).str(base.word()).str(base.word()).str("Tasks").array(2);
    for task in 0..2 {
        let env: Vec<_> = (0..8 + base.below(10))
            .map(|i| {
                (
                    format!("{}_{}", base.words(2, "_").to_uppercase(), i),
                    format!("http://{}.service.consul:{}", base.words(2, "-"), base.below(65_536)),
                )
            })
            .collect();
        pack.map(8).str("Config").map(2).str("image").str(&format!(
            "registry.internal/{}:{}",
            base.word(),
            base.hex(7)
        ));
        pack.str("ports").array(1).str("http").str("Driver").str("docker").str("Env").go_map(&env, seed + 1 + task);
        pack.str("KillTimeout").uint(5_000_000_000).str("LogConfig").map(2).str("MaxFileSizeMB").uint(10);
        pack.str("MaxFiles").uint(10).str("Meta").nil().str("Name").str(&format!("{job}-{task}"));
        pack.str("Resources").map(4).str("CPU").uint(100).str("DiskMB").uint(0).str("MemoryMB").uint(128);
        pack.str("Networks").nil();
    }
}

fn networks(rng: &mut Rng, pack: &mut Pack<'_>) {
    pack.str("Networks").array(1).map(6).str("CIDR").str("").str("DynamicPorts").array(2);
    for label in ["http", "metrics"] {
        pack.map(4).str("HostNetwork").str("default").str("Label").str(label).str("To").uint(8080);
        pack.str("Value").uint(20_000 + rng.below(12_000));
    }
    pack.str("IP").str(&format!("10.31.0.{}", rng.below(250))).str("MBits").uint(0).str("Mode").str("bridge");
    pack.str("ReservedPorts").nil();
}

fn eval(made: &Made, pack: &mut Pack<'_>) {
    let (mut base, mut changed) = (made.base(), made.changed());
    pack.map(11)
        .str("CreateIndex")
        .uint(made.create_index)
        .str("CreateTime")
        .uint(archive::unix_s(0) * 1_000_000_000 + base.below(1_000_000_000));
    pack.str("DeploymentID").str(&base.uuid(!made.identity)).str("ID").str(&base.uuid(made.identity));
    pack.str("JobID").str(&job_name(base.next())).str("ModifyIndex").uint(made.modify_index);
    pack.str("Namespace").str("default").str("QueuedAllocations");
    pack.go_map(&[pair("app", "\0"), pair("worker1", "\0")], made.identity);
    pack.str("SnapshotIndex").uint(made.modify_index - 1).str("Status");
    pack.str(["complete", "pending", "blocked"][changed.below(3) as usize])
        .str("TriggeredBy")
        .str("deployment-watcher");
}

/// What runs of a job, with the job as it was: about 12 KB with two more maps for each task.
fn alloc(made: &Made, pack: &mut Pack<'_>) {
    let (mut base, mut changed) = (made.base(), made.changed());
    // Some four allocations have the same job in them.
    let job = Rng::of(&[made.seed, made.identity % 997]).next();
    let name = job_name(job);
    pack.map(16).str("AllocModifyIndex").uint(made.modify_index).str("AllocatedResources").map(2).str("Shared").map(2);
    pack.str("DiskMB").uint(300);
    networks(&mut base, pack);
    pack.str("TaskLifecycles").go_map(&[pair(&format!("{name}-0"), ""), pair(&format!("{name}-1"), "")], made.identity);
    pack.str("ClientDescription").str(&changed.words(4, " ")).str("ClientStatus").str("running");
    pack.str("CreateIndex")
        .uint(made.create_index)
        .str("CreateTime")
        .uint(archive::unix_s(0) * 1_000_000_000 + base.below(1_000_000_000));
    pack.str("DeploymentID").str(&base.uuid(!made.identity)).str("DesiredStatus").str("run");
    pack.str("EvalID")
        .str(&base.uuid(made.identity.rotate_left(9)))
        .str("ID")
        .str(&base.uuid(made.identity))
        .str("Job");
    job_body(job, 0, made.create_index / 2, made.create_index / 2, pack);
    pack.str("JobID").str(&name).str("ModifyIndex").uint(made.modify_index).str("Name").str(&format!("{name}.app[0]"));
    pack.str("NodeID").str(&base.uuid(base.clone().below(20))).str("TaskStates").array(2);
    for task in 0..2 {
        pack.map(4).str("Events").array(3);
        for kind in ["Received", "Task Setup", "Started"] {
            let details =
                [pair("message", Rng::of(&[task]).words(6, " ")), pair("driver", "docker"), pair("exit_code", "0")];
            pack.map(4).str("Details").go_map(&details, made.identity + task).str("DisplayMessage");
            pack.str("Task started by client, built and signed").str("Time");
            pack.uint(archive::unix_s(made.version) * 1_000_000_000 + changed.below(1_000_000_000))
                .str("Type")
                .str(kind);
        }
        pack.str("Failed").bool(false).str("Name").str(&format!("{name}-{task}")).str("State").str("running");
    }
}

fn summary(made: &Made, pack: &mut Pack<'_>) {
    let mut changed = made.changed();
    pack.map(4).str("CreateIndex").uint(made.create_index).str("JobID").str(&job_name(made.identity));
    pack.str("ModifyIndex").uint(made.modify_index).str("Summary").map(2);
    for group in ["app", "worker1"] {
        pack.str(group).map(4).str("Complete").uint(changed.below(9)).str("Failed").uint(0).str("Lost").uint(0);
        pack.str("Running").uint(changed.below(4));
    }
}

fn deployment(made: &Made, pack: &mut Pack<'_>) {
    let mut base = made.base();
    pack.map(6).str("CreateIndex").uint(made.create_index).str("ID").str(&base.uuid(made.identity));
    pack.str("JobID").str(&job_name(base.next())).str("ModifyIndex").uint(made.modify_index);
    pack.str("Status").str("successful").str("TaskGroups").map(1).str("app").map(4);
    pack.str("DesiredTotal").uint(2).str("HealthyAllocs").uint(made.changed().below(3)).str("PlacedAllocs").uint(2);
    pack.str("RequireProgressBy").time(archive::unix_s(made.version), 0);
}

fn token(made: &Made, pack: &mut Pack<'_>) {
    let mut base = made.base();
    pack.map(5).str("AccessorID").str(&base.uuid(made.identity)).str("CreateIndex").uint(made.create_index);
    pack.str("ModifyIndex").uint(made.modify_index).str("Name").str(&base.words(2, "-"));
    pack.str("SecretID").str(&base.uuid(made.identity.rotate_left(7)));
}
