//! A small table of named values (pinned hashes of models, the secret behind session cookies) and the owners.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use crate::database::{Store, now_ms};
use crate::entities::{key_value, owner};
use crate::{OwnerId, StoreError};

impl Store {
    /// The value stored under this key.
    pub async fn value(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(key_value::Entity::find_by_id(key.to_owned()).one(self.read()).await?.map(|row| row.value))
    }

    /// Stores a value under this key, in place of an earlier one.
    pub async fn set_value(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let row = key_value::ActiveModel { key: Set(key.to_owned()), value: Set(value.to_vec()) };
        let txn = self.write().await?;
        key_value::Entity::insert(row)
            .on_conflict(
                OnConflict::column(key_value::Column::Key).update_column(key_value::Column::Value).to_owned(),
            )
            .exec_without_returning(&txn)
            .await?;
        self.commit(txn).await
    }

    /// The owner with this name, made if missing.
    pub async fn owner_named(&self, name: &str) -> Result<OwnerId, StoreError> {
        let txn = self.write().await?;
        let row = owner::ActiveModel {
            id: Set(OwnerId::new().0),
            name: Set(name.to_owned()),
            created_at: Set(now_ms()),
        };
        owner::Entity::insert(row)
            .on_conflict(OnConflict::column(owner::Column::Name).do_nothing().to_owned())
            .exec_without_returning(&txn)
            .await?;
        let found = owner::Entity::find().filter(owner::Column::Name.eq(name)).one(&txn).await?;
        self.commit(txn).await?;
        found.map(|row| OwnerId(row.id)).ok_or(StoreError::NotFound { what: "owner" })
    }
}
