//! `abide tenant`.

use std::io::{self, BufRead, IsTerminal, Write};

use abide::Timestamp;
use abide::admin::{
    Tenant as Listed, TenantRole, create_tenant, drop_tenant, list_tenants, system_now,
};
use abide::client::Time;
use clap::{Args, Subcommand};
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::output::text::{self, escape};
use crate::output::{Cell, Record, Rows, document, note};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// Create, list and drop stores in one PostgreSQL database.
///
/// A tenant is a store in a schema of its own. Programs reach it with `schema=NAME` in the address.
/// A schema in the address of this command has no effect.
#[derive(Debug, Args)]
pub(crate) struct Tenant {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a store in a schema of its own
    Create(Create),
    /// List the stores that the address's user may use
    #[command(visible_alias = "ls")]
    List,
    /// Drop a store and everything in it, for good
    Drop(Drop),
}

#[derive(Debug, Args)]
struct Create {
    /// The schema's name
    name: String,

    /// A role that can do everything in this store and nothing in others. It is created if it does
    /// not exist
    #[arg(long)]
    role: Option<String>,

    /// Read the password of a new role from standard input: the first line
    #[arg(long, requires = "role")]
    password_stdin: bool,
}

#[derive(Debug, Args)]
struct Drop {
    /// The schema's name
    name: String,

    /// The name again, if there is no terminal on which to ask for it
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

/// A tenant in a list.
#[derive(Serialize)]
struct TenantRecord {
    name: String,
    owner: String,
    bytes: Option<i64>,
    created_at: Option<Time>,
}

/// The result of `create`.
#[derive(Serialize)]
struct Created<'a> {
    name: &'a str,
    role: Option<&'a str>,
    /// False if it already existed.
    created: bool,
    role_created: bool,
}

/// The result of `drop`.
#[derive(Serialize)]
struct Dropped<'a> {
    name: &'a str,
    owner: &'a str,
    dropped: bool,
}

impl Tenant {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        match &self.command {
            Command::Create(create) => create.run(session).await,
            Command::List => list(session).await,
            Command::Drop(drop) => drop.run(session).await,
        }
    }
}

impl Create {
    async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let server = server(session)?;
        let password = match self.password_stdin {
            true => Some(first_line()?),
            false => None,
        };
        let role = self.role.as_ref().map(|name| TenantRole {
            name: name.clone(),
            password,
        });
        let done = create_tenant(server, &self.name, role).await?;
        let name = escape(&self.name);
        if !done.created && self.role.is_some() {
            return Err(Problem::Conflict(format!(
                "there is a store in `{name}` already: a role is given to a new one"
            )));
        }
        let answer = Created {
            name: &self.name,
            role: self.role.as_deref(),
            created: done.created,
            role_created: done.role_created,
        };
        document(session.format, &self.name, &answer, |out| {
            match (&self.role, done.created) {
                (_, false) => writeln!(out, "{name}: a store already (unchanged)"),
                (None, true) => writeln!(out, "{name}: created"),
                (Some(role), true) => {
                    writeln!(out, "{name}: created, owned by role {}", escape(role))
                }
            }
        })?;
        if self.role.is_some() && !done.role_created && self.password_stdin {
            note("the role was there already: its password is what it was");
        }
        Ok(Outcome::Good)
    }
}

async fn list(session: &Session) -> Result<Outcome, Problem> {
    let tenants = list_tenants(server(session)?).await?;
    let mut rows = Rows::new(session.format, TenantRecord::COLUMNS);
    for tenant in &tenants {
        rows.push(&TenantRecord::new(tenant))?;
    }
    rows.finish()?;
    if tenants.is_empty() {
        note("no stores in this database that its user may use");
    }
    Ok(Outcome::Good)
}

impl Drop {
    async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let server = server(session)?;
        if let Some(again) = &self.confirm
            && *again != self.name
        {
            return Err(Problem::Usage(format!(
                "`--confirm {again}` is another name than `{}`: nothing was dropped",
                self.name
            )));
        }
        if self.confirm.is_none() {
            let mut tenants = list_tenants(server).await?;
            tenants.retain(|tenant| tenant.schema == self.name);
            if let Some(tenant) = tenants.pop()
                && !self.is_meant(&tenant)?
            {
                return Err(Problem::Failed("not dropped".to_owned()));
            }
        }
        let dropped = drop_tenant(server, &self.name).await?;
        let tenant = dropped.ok_or_else(|| {
            Problem::NotFound(format!(
                "there is no store in `{}`: `abide tenant list` shows what there is",
                self.name
            ))
        })?;
        let answer = Dropped {
            name: &self.name,
            owner: &tenant.owner,
            dropped: true,
        };
        document(session.format, &self.name, &answer, |out| {
            let (name, owner) = (escape(&self.name), escape(&tenant.owner));
            writeln!(
                out,
                "{name}: dropped; its owner, role {owner}, is still there"
            )
        })?;
        Ok(Outcome::Good)
    }

    /// Asks for the name again, on a terminal.
    fn is_meant(&self, tenant: &Listed) -> Result<bool, Problem> {
        let mut words = io::stderr();
        if !io::stdin().is_terminal() || !words.is_terminal() {
            return Err(Problem::Usage(format!(
                "dropping `{0}` can't be taken back: say `--confirm {0}`",
                self.name
            )));
        }
        let record = TenantRecord::new(tenant);
        write!(
            words,
            "This drops the store {}, {}, made {}, and everything in it, for good.\nType its name to go on: ",
            escape(&record.name),
            record.size(),
            record.made(),
        )?;
        words.flush()?;
        Ok(first_line()? == self.name)
    }
}

impl TenantRecord {
    const COLUMNS: &[&str] = &["NAME", "OWNER", "SIZE", "CREATED"];

    fn new(tenant: &Listed) -> TenantRecord {
        TenantRecord {
            name: tenant.schema.clone(),
            owner: tenant.owner.clone(),
            bytes: tenant.bytes,
            created_at: tenant.created_at.map(Time),
        }
    }

    fn size(&self) -> String {
        self.bytes.map_or_else(
            || "-".to_owned(),
            |bytes| BinaryBytes(bytes.unsigned_abs()).to_string(),
        )
    }

    fn made(&self) -> String {
        match &self.created_at {
            Some(Time(at)) => text::local(*at, now()),
            None => "-".to_owned(),
        }
    }
}

impl Record for TenantRecord {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::whole(&self.name),
            self.owner.as_str().into(),
            self.size().into(),
            self.made().into(),
        ]
    }
}

fn now() -> Timestamp {
    system_now()
}

/// The named database, which must be on a server.
fn server(session: &Session) -> Result<&str, Problem> {
    let database = session.database()?;
    if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        return Ok(database);
    }
    Err(Problem::Usage(
        "tenants are schemas of a PostgreSQL database: say `--db postgres://..`; on SQLite, every file is a store of \
         its own"
            .to_owned(),
    ))
}

/// The first line of standard input, without its line end.
fn first_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
